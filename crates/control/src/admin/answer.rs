//! answer: what the admin API says to each request.

use super::gate::{Gate, Refusal};
use super::{pools, status};
use crate::apply::{Supervisor, Trouble};
use crate::described::{self, OnlyIf};
use crate::observe::{log, metrics};
use crate::wishes::{self, Refused};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
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
    if let Some(named) = pools::host_of(request.uri().path()) {
        return match reads {
            true => look_at_host(request.headers(), &named, supervisor),
            false => change_host(request, named, supervisor).await,
        };
    }
    if let Some(pool) = pools::pool_of(request.uri().path()).filter(|_| reads) {
        return look_at_pool(request.headers(), pool, supervisor).await;
    }
    let writes = request.method() == Method::POST;
    match (request.uri().path(), reads, writes) {
        ("/live", true, _) => text(StatusCode::OK, "live\n"),
        ("/ready", true, _) => match supervisor.is_stopping() {
            false => text(StatusCode::OK, "ready\n"),
            true => text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        },
        ("/status", true, _) => blocking(supervisor, |s| json_page(StatusCode::OK, &status::of(s))).await,
        ("/pools", true, _) => {
            let page = |s: &Supervisor| json_page(StatusCode::OK, &status::of(s)["pools"].take());
            tagged(request.headers(), blocking(supervisor, page).await).await
        }
        ("/metrics", true, _) => blocking(supervisor, metrics_page).await,
        ("/config", true, _) => config(request.headers(), supervisor),
        ("/reload", _, true) => reload(wants_json(request.headers()), supervisor).await,
        ("/upgrade", _, true) => upgrade(supervisor).await,
        ("/stop", _, true) => {
            log::info("asked to stop over the admin API");
            supervisor.want_stop();
            text(StatusCode::ACCEPTED, "stopping\n")
        }
        ("/live" | "/ready" | "/status" | "/pools" | "/metrics" | "/config", ..) => not_allowed("GET, HEAD"),
        ("/reload" | "/upgrade" | "/stop", ..) => not_allowed("POST"),
        _ => text(StatusCode::NOT_FOUND, PAGES),
    }
}

/// A pool with its hosts, as in the status.
async fn look_at_pool(fields: &HeaderMap, pool: String, supervisor: &Arc<Supervisor>) -> Answer {
    let as_json = wants_json(fields);
    let page = move |s: &Supervisor| {
        if let Err(refused) = wishes::pool_of(&s.running(), &pool) {
            return not_made(&refused, as_json);
        }
        let mut all = status::of(s)["pools"].take();
        let its = all.as_array_mut().and_then(|all| all.iter_mut().find(|it| it["name"] == *pool));
        let nobody = json!({ "name": pool, "hosts": [] });
        json_page(StatusCode::OK, &its.map_or(nobody, |its| its.take()))
    };
    tagged(fields, blocking(supervisor, page).await).await
}

/// A member of a pool as it can be changed.
fn look_at_host(fields: &HeaderMap, (pool, host): &(String, String), supervisor: &Supervisor) -> Answer {
    match wishes::look(&supervisor.running(), pool, host) {
        Ok(found) => if_new(fields, &found.tag, || json_page(StatusCode::OK, &found.page)),
        Err(refused) => not_made(&refused, wants_json(fields)),
    }
}

/// Adds, removes, drains or weights a host.
async fn change_host(
    request: Request<Incoming>,
    named: (String, String),
    supervisor: &Arc<Supervisor>,
) -> Answer {
    let as_json = wants_json(request.headers());
    let (head, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long, or broke off\n");
    };
    let only_if = pools::only_if(&head.headers);
    let change = match pools::change(&head.method, named, head.uri.query(), &body.to_bytes(), only_if) {
        Some(Ok(change)) => change,
        Some(Err(reason)) => return told(StatusCode::BAD_REQUEST, &reason, &[], as_json),
        None => return not_allowed("GET, HEAD, PUT, PATCH, DELETE"),
    };
    let own = Arc::clone(supervisor);
    let done = tokio::task::spawn_blocking(move || wishes::make(&own, &change)).await;
    match done {
        Ok(Ok(made)) => {
            let answer = told(StatusCode::OK, &made.said, &[], as_json);
            made.host.iter().fold(answer, |answer, host| with_tag(answer, &host.tag))
        }
        Ok(Err(refused)) => not_made(&refused, as_json),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "this change has panicked\n"),
    }
}

fn not_made(refused: &Refused, as_json: bool) -> Answer {
    let known: &[String] = if let Refused::Unknown { known, .. } = refused { known } else { &[] };
    let status = match refused {
        Refused::Unknown { .. } => StatusCode::NOT_FOUND,
        Refused::Wrong(_) => StatusCode::BAD_REQUEST,
        Refused::Conflict(_) => StatusCode::CONFLICT,
        Refused::Changed(_) => StatusCode::PRECONDITION_FAILED,
        Refused::Trouble(Trouble::Stopping | Trouble::HandedOver) => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Unkept(_) | Refused::Trouble(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let answer = told(status, &refused.to_string(), known, as_json);
    match refused {
        Refused::Changed(Some(tag)) => with_tag(answer, tag),
        _ => answer,
    }
}

fn told(status: StatusCode, said: &str, known: &[String], as_json: bool) -> Answer {
    match (as_json, status.is_success()) {
        (true, true) => json_page(status, &json!({ "result": "ok", "now": said })),
        (true, false) => json_page(status, &json!({ "result": "refused", "reason": said, "known": known })),
        (false, _) => text(status, format!("{said}\n")),
    }
}

/// Whoever asks the workers has to wait for them, which must not stop the runtime.
async fn blocking(
    supervisor: &Arc<Supervisor>,
    page: impl FnOnce(&Supervisor) -> Answer + Send + 'static,
) -> Answer {
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
    if_new(fields, &format!("\"{}\"", running.hash), || answer(StatusCode::OK, JSON, &*running.json))
}

/// `page`, unless the caller has it already.
fn if_new(fields: &HeaderMap, tag: &str, page: impl FnOnce() -> Answer) -> Answer {
    let only_if = OnlyIf { matches: None, ..pools::only_if(fields) };
    let page = if only_if.holds(Some(tag)) { page() } else { answer(StatusCode::NOT_MODIFIED, JSON, "") };
    with_tag(page, tag)
}

/// The same with a tag of all its bytes.
async fn tagged(fields: &HeaderMap, page: Answer) -> Answer {
    if !page.status().is_success() {
        return page;
    }
    let (head, body) = page.into_parts();
    let Ok(body) = body.collect().await.map(|body| body.to_bytes());
    if_new(fields, &described::tag(&body), || Response::from_parts(head, Full::new(body)))
}

fn with_tag(mut answer: Answer, tag: &str) -> Answer {
    if let Ok(tag) = HeaderValue::from_str(tag) {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer
}

async fn reload(as_json: bool, supervisor: &Arc<Supervisor>) -> Answer {
    let result = supervisor.reload_and_report().await;
    let status = match &result {
        Ok(_) => StatusCode::OK,
        Err(Trouble::Stopping | Trouble::HandedOver) => StatusCode::SERVICE_UNAVAILABLE,
        Err(Trouble::Listen(..)) => StatusCode::CONFLICT,
        Err(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    match (result, as_json) {
        (Ok(now), true) => {
            json_page(status, &json!({ "result": "ok", "hash": now.hash, "warnings": now.warnings }))
        }
        (Ok(now), false) => {
            let told =
                [now.warnings.clone(), described::by_hand(now.snapshot.plan(), now.snapshot.members())]
                    .concat();
            text(status, lines(&format!("reloaded, configuration {}", now.hash), &told))
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

const BODY_BYTES_MAX: usize = 64 << 10;
const JSON: &str = "application/json";

/// What there is, for whoever asks for something else.
const PAGES: &str = "not found; there is GET /live /ready /status /pools /metrics /config, POST /reload /upgrade /stop, and GET, \
                     PUT, PATCH, DELETE /pools/POOL/hosts/HOST\n";
