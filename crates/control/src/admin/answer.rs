//! answer: what the admin API says to each request.

use super::gate::{Gate, Refusal};
use super::status;
use crate::apply::{Supervisor, Trouble};
use crate::observe::{log, metrics};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, WWW_AUTHENTICATE,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use std::sync::Arc;

type Answer = Response<Full<Bytes>>;

/// Answers one request. Paths are compared whole: there is nothing below them (attack I4).
pub async fn to(request: Request<Incoming>, gate: &Gate, supervisor: &Arc<Supervisor>) -> Answer {
    if let Err(refusal) = gate.check(request.headers()) {
        log::warn(format_args!("the admin API has refused a call: {}", refusal.reason));
        return refused(refusal);
    }
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    let writes = request.method() == Method::POST;
    match (request.uri().path(), reads, writes) {
        ("/live", true, _) => text(StatusCode::OK, "live\n"),
        ("/ready", true, _) => match supervisor.is_stopping() {
            false => text(StatusCode::OK, "ready\n"),
            true => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        },
        ("/status", true, _) => blocking(supervisor, |s| json_page(StatusCode::OK, &status::of(s))).await,
        ("/metrics", true, _) => blocking(supervisor, metrics_page).await,
        ("/config", true, _) => config(request.headers(), supervisor),
        ("/reload", _, true) => reload(wants_json(request.headers()), supervisor).await,
        ("/upgrade", _, true) => upgrade(supervisor).await,
        ("/stop", _, true) => {
            log::info("asked to stop over the admin API");
            supervisor.want_stop();
            text(StatusCode::ACCEPTED, "stopping\n")
        }
        ("/live" | "/ready" | "/status" | "/metrics" | "/config", ..) => not_allowed("GET, HEAD"),
        ("/reload" | "/upgrade" | "/stop", ..) => not_allowed("POST"),
        _ => text(StatusCode::NOT_FOUND, PAGES),
    }
}

/// Whoever asks the workers has to wait for them, which must not stop the runtime.
async fn blocking(supervisor: &Arc<Supervisor>, page: fn(&Supervisor) -> Answer) -> Answer {
    let supervisor = Arc::clone(supervisor);
    let page = tokio::task::spawn_blocking(move || page(&supervisor)).await;
    page.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "this page has panicked\n"))
}

fn metrics_page(supervisor: &Supervisor) -> Answer {
    match supervisor.stats() {
        Some(stats) => {
            let page = metrics::text(&stats, &supervisor.facts());
            answer(StatusCode::OK, metrics::MEDIA, page)
        }
        None => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}

fn config(fields: &HeaderMap, supervisor: &Supervisor) -> Answer {
    let running = supervisor.running();
    let tag = format!("\"{}\"", running.hash);
    let known = fields.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|list| list.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    });
    let mut answer = match known {
        true => answer(StatusCode::NOT_MODIFIED, JSON, ""),
        false => answer(StatusCode::OK, JSON, running.json.clone()),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

async fn reload(as_json: bool, supervisor: &Arc<Supervisor>) -> Answer {
    let result = supervisor.reload_and_report().await;
    let status = match &result {
        Ok(_) => StatusCode::OK,
        Err(Trouble::Stopping) => StatusCode::SERVICE_UNAVAILABLE,
        Err(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    match (result, as_json) {
        (Ok(now), true) => {
            json_page(status, &json!({ "result": "ok", "hash": now.hash, "warnings": now.warnings }))
        }
        (Ok(now), false) => {
            text(status, lines(&format!("reloaded, configuration {}", now.hash), &now.warnings))
        }
        (Err(why), true) => json_page(status, &json!({ "result": "refused", "mistakes": why.to_json() })),
        (Err(why), false) => text(status, lines("refused, the old configuration goes on", &why.lines())),
    }
}

async fn upgrade(supervisor: &Arc<Supervisor>) -> Answer {
    match supervisor.upgrade().await {
        Ok(id) => text(StatusCode::OK, format!("upgraded; process {id} serves now\n")),
        Err(why) => text(StatusCode::CONFLICT, lines("not upgraded, this program goes on", &[why])),
    }
}

fn lines(first: &str, more: &[String]) -> String {
    let mut text = format!("{first}\n");
    for line in more {
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn wants_json(fields: &HeaderMap) -> bool {
    let accepted = fields.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.into_iter().any(|value| value.contains("json"))
}

fn refused(refusal: Refusal) -> Answer {
    let mut answer = text(refusal.status, format!("{}\n", refusal.reason));
    if refusal.status == StatusCode::UNAUTHORIZED {
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

fn not_allowed(allow: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "this method is not for this path\n");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

fn json_page(status: StatusCode, value: &serde_json::Value) -> Answer {
    answer(status, JSON, format!("{value:#}\n"))
}

fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    answer(status, "text/plain; charset=utf-8", text)
}

fn answer(status: StatusCode, media: &'static str, body: impl Into<String>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body.into())));
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}

const JSON: &str = "application/json";

/// What there is, for whoever asks for something else.
const PAGES: &str =
    "not found; there is GET /live /ready /status /metrics /config, and POST /reload /upgrade /stop\n";
