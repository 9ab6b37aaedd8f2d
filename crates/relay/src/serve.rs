//! THE function: one exchange through the verbs.

use crate::attempt::{Answer, Answered, Ask};
use crate::call::Call;
use crate::client::Client;
use crate::context::{Bounds, Context};
use crate::filter::chain::Step;
use crate::filter::forwarded;
use crate::grpc;
use crate::plan::Urgency;
use crate::pump::answer::{self, Both};
use crate::pump::{Transfer, tunnel};
use crate::reply::{self, own};
use crate::run::Run;
use crate::snapshot::Route;
use crate::tally;
use crate::worker::Worker;
use portunus_message::body::Source;
use portunus_message::{Crime, Error, Exchange, Phase, Response, Retry, Side, Status};
use portunus_wire::h1::Framing;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

/// One exchange, from request to record. Everything the data plane does is called from here.
pub async fn serve(call: &mut Call<'_>) {
    let done = match find(call) {
        Found::Route(route) => follow(call, route).await,
        Found::Challenge(text) => show(call.x, call.client, &text, call.worker).await,
        Found::Nothing(crime) => {
            refuse(call.x, call.client, Error::client(Phase::Head, crime), call.worker).await
        }
    };
    let Call { x, client, run, worker, .. } = call;
    if let Err(error) = done {
        x.error.get_or_insert(error);
        client.keep_alive = false;
    }
    if x.sent.is_none() {
        x.sent = x.error.map(|error| error.crime.status());
    }
    tally::close(x, run, worker);
}

/// Where a request leads.
enum Found<'a> {
    Route(&'a Route),
    /// A CA asks, and gets this text.
    Challenge(Arc<str>),
    Nothing(Crime),
}

/// Finds out who asks, and for what.
fn find<'a>(call: &mut Call<'a>) -> Found<'a> {
    let Call { x, client, scratch, run, .. } = call;
    let run: &'a Run = run;
    scratch.later.clear();
    if x.request.target.authority().is_empty() {
        name_what_was_reached(x);
    }
    let client_ip =
        forwarded::apply(&mut x.request, &x.peer, &run.snapshot.trust, &mut scratch.told, &mut x.id);
    x.client_ip = Some(client_ip);
    x.asked.push_str(x.request.target.path_and_query());
    let mut found = run.find(client.listen.as_ref(), &x.request, client_ip);
    if let (Some(secured), Ok((_, route))) = (&client.secured, &found) {
        let front = run.snapshot.fronts.site(route.site);
        if !secured.is_good_for(x.request.target.host(), front.map(|front| &**front)) {
            client.keep_alive = false; // another connection may be another one's
            found = Err(Crime::Misdirected);
        }
    }
    // A CA is answered whatever the sites make of its request; everybody else's goes on.
    if let Some(text) = run.snapshot.challenges.answer(x.request.target.path()) {
        return Found::Challenge(text);
    }
    match found {
        Ok((at, route)) => {
            x.labels.route = Some(at);
            Found::Route(route)
        }
        Err(crime) => Found::Nothing(crime),
    }
}

/// HTTP/1.0 knows requests without a host: they are for the name that the handshake was for, or the address that the connection
/// reached (RFC 9112 §3.3).
fn name_what_was_reached(x: &mut Exchange) {
    let (ours, target) = (x.peer.ours, &mut x.request.target);
    let is_unix = ours.port() == 0;
    let mut text = match x.proof.as_ref().and_then(|proof| proof.name.as_deref()) {
        Some(name) => name.to_owned(),
        None if is_unix => "localhost".to_owned(),
        None => match ours.ip().to_canonical() {
            IpAddr::V6(ip) => format!("[{ip}]"),
            ip => ip.to_string(),
        },
    };
    if !is_unix && ours.port() != target.scheme.default_port() {
        text.push_str(&format!(":{}", ours.port()));
    }
    let _ = target.set_authority(text.as_bytes()); // an address is one, and so is a name that a handshake was for
}

/// Follows a route to its end. An error means that the client's connection cannot go on.
async fn follow(call: &mut Call<'_>, route: &Route) -> Result<(), Error> {
    // What needs no upstream, or is urgent, is always answered: health, for one.
    call.client.stood_in_line = !route.split.forward.is_empty() && route.urgency < Urgency::High;
    if call.client.stood_in_line
        && !call.worker.turnstile.passes_at_once()
        && !call
            .worker
            .turnstile
            .pass(&call.worker.clock, call.worker.limits().worker_lag, &mut call.client.ahead)
            .await
    {
        // Whoever asks again over the same connection costs as much as before; a new one has to wait for its turn.
        call.client.keep_alive = false;
        let error = Error::proxy(Phase::Head, Crime::Overloaded);
        return refuse(call.x, call.client, error, call.worker).await;
    }
    let mut bounds = route.bounds;
    let (ran, verdict) = match route.chain.is_empty() {
        true => (0, Verdict::Go),
        false => filter(call, route, &mut bounds).await,
    };
    if grpc::is_call(&call.x.request) {
        bound_call(call, route, &mut bounds);
    }
    let answered = match verdict {
        Verdict::Answer if opens_nothing(call) => {
            let error = Error::client(Phase::Head, Crime::UnknownProtocol);
            return fail(call, route, &mut bounds, ran, error).await;
        }
        Verdict::Answer => None,
        Verdict::Fail(error) => return fail(call, route, &mut bounds, ran, error).await,
        Verdict::Go => match ask(call, route, &bounds).await {
            Ok(answered) if !answered.answer.upgraded && opens_nothing(call) => {
                drop(answered);
                let error = Error::upstream(Phase::Wait, Crime::BadSwitch, Retry::Never);
                return fail(call, route, &mut bounds, ran, error).await;
            }
            Ok(answered) => Some(answered),
            Err(error) => return fail(call, route, &mut bounds, ran, error).await,
        },
    };
    turn_back(call, route, &mut bounds, ran, answered.as_ref());
    match answered {
        None => local(call.x, call.client, call.worker).await,
        Some(answered) if answered.answer.upgraded => switch(call, answered, route).await,
        Some(answered) => relay(call, answered, route, &bounds, ran).await,
    }
}

/// Whether the answer would tell a client of HTTP/2 that there is a tunnel, as any 2xx does (RFC 8441 §5), where there is none.
fn opens_nothing(call: &Call<'_>) -> bool {
    call.x.request.websocket
        && call.client.link.is_stream()
        && (200..300).contains(&call.x.response.status.code())
}

/// Asks an upstream.
async fn ask(call: &mut Call<'_>, route: &Route, bounds: &Bounds) -> Result<Answered, Error> {
    if call.x.request.body.length.is_some_and(|length| length > bounds.body_bytes) {
        return Err(Error::client(Phase::Body, Crime::BodyTooLarge));
    }
    let mut ask = Ask::new(call, route, bounds)?; // in one line with what follows it would be kept twice
    ask.until_answered().await
}

/// The bounds of a call of gRPC are those that its client has given it.
fn bound_call(call: &Call<'_>, route: &Route, bounds: &mut Bounds) {
    // Not where somebody else's servers would have to wait for whoever says that it is a call.
    let pools = route.split.forward.iter().filter_map(|(pool, _)| call.run.pools.get(*pool as usize));
    let in_turns = pools.flat_map(|pool| &pool.hosts).all(|host| !host.speaks_http1());
    grpc::bound(&call.x.request, bounds, &route.limits, in_turns, call.client.link.is_stream());
}

/// Shows a CA what it asks for (RFC 8555 §8.3).
async fn show(x: &mut Exchange, client: &mut Client, text: &str, worker: &Worker) -> Result<(), Error> {
    own::take(x, Response::text(Status::OK, "application/octet-stream", text));
    local(x, client, worker).await
}

/// What the filters say of a request.
enum Verdict {
    Go,
    Answer,
    Fail(Error),
}

/// Leads the request through the route's filters, waiting where they ask for it.
async fn filter(call: &mut Call<'_>, route: &Route, bounds: &mut Bounds) -> (usize, Verdict) {
    let Call { x, client, scratch, worker, .. } = call;
    let (peer, client_ip, id, now) = (x.peer, x.client_ip(), x.id, x.times.began);
    let later = &mut scratch.later;
    let proof = x.proof.as_deref();
    let mut cx =
        Context { peer, proof, client_ip, id, now, bounds, upstream: None, later, access_granted: false };
    let mut step = route.chain.request(0, &mut x.request, &mut cx);
    loop {
        step = match step {
            Step::Done => return (route.chain.len(), Verdict::Go),
            Step::Answer { ran, response } => {
                own::take(x, *response);
                return (ran, Verdict::Answer);
            }
            Step::Fail { ran, error } => return (ran, Verdict::Fail(error)),
            Step::Ask { at, question } => {
                let answer = worker.asker.ask(question, worker.clock.now()).await;
                worker.clock.refresh();
                route.chain.answered(at, answer, &mut x.request, &mut cx)
            }
            Step::Wait { at, time } => {
                pause(client, worker, time).await;
                route.chain.request(at, &mut x.request, &mut cx)
            }
        };
    }
}

/// Lets time pass.
async fn pause(client: &Client, worker: &Worker, time: std::time::Duration) {
    let until = worker.clock.now() + time;
    client.deadline.set(until);
    poll_fn(|_| if worker.clock.refresh() >= until { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Leads the answer back through the filters that ran.
fn turn_back(
    call: &mut Call<'_>,
    route: &Route,
    bounds: &mut Bounds,
    ran: usize,
    answered: Option<&Answered>,
) {
    let Call { x, scratch, .. } = call;
    if ran > 0 {
        let upstream = answered.map(|answered| &*answered.answer.lease.pool().host.name);
        let (peer, client_ip, id, now) = (x.peer, x.client_ip(), x.id, x.times.began);
        let later = &mut scratch.later;
        let proof = x.proof.as_deref();
        let mut cx =
            Context { peer, proof, client_ip, id, now, bounds, upstream, later, access_granted: true };
        route.chain.response(ran, &mut x.response, &x.request, &mut cx);
    }
    if !scratch.later.is_empty() {
        reply::add_later(x, &scratch.later);
    }
}

/// Answers for an error, through the filters that ran, if somebody is left to be answered.
async fn fail(
    call: &mut Call<'_>,
    route: &Route,
    bounds: &mut Bounds,
    ran: usize,
    error: Error,
) -> Result<(), Error> {
    call.x.error = Some(error);
    if tally::is_client_gone(call.x) {
        return Err(error);
    }
    if error.side == Side::Client && error.phase == Phase::Body {
        call.client.keep_alive = false; // what follows a body that was not taken has no meaning (attack A36)
    }
    own::sorry(call.x, &error);
    turn_back(call, route, bounds, ran, None);
    local(call.x, call.client, call.worker).await
}

/// Answers for an error that comes before any route; also for heads that could not be read.
pub async fn refuse(
    x: &mut Exchange,
    client: &mut Client,
    error: Error,
    worker: &Worker,
) -> Result<(), Error> {
    x.error = Some(error);
    own::sorry(x, &error);
    local(x, client, worker).await
}

/// Sends an answer of our own. What the client still sends of its request is read and dropped, if it is little
/// (attack A8); otherwise the connection ends with this answer.
async fn local(x: &mut Exchange, client: &mut Client, worker: &Worker) -> Result<(), Error> {
    let limits = worker.limits();
    let little = client.link.declared_left().is_none_or(|left| left <= limits.drain_bytes as u64);
    // What follows a handshake was meant for a tunnel that is not there (attack A30).
    if !little || client.expects_continue || client.link.is_broken() || x.request.websocket {
        client.keep_alive = false;
    }
    let framing = reply::head(x, client, worker);
    let source = std::mem::take(&mut x.response.body.source);
    let body = match &source {
        Source::Bytes(bytes) if framing != Framing::None => bytes.as_slice(),
        _ => &[],
    };
    answer::own(x, client, body, &limits, worker).await?;
    drain(client, worker).await
}

/// Reads what is left of a request that nobody wants, within its bounds.
async fn drain(client: &mut Client, worker: &Worker) -> Result<(), Error> {
    if !client.keep_alive || client.link.is_read() {
        return Ok(());
    }
    let limits = worker.limits();
    let until = worker.clock.now() + limits.drain_time;
    client.deadline.set(until);
    let mut left = limits.drain_bytes;
    poll_fn(|cx| {
        loop {
            match client.link.poll_data(cx) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if worker.clock.refresh() < until => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Err(Error::client(Phase::Body, Crime::BodyTimeout))),
            }
            let count = client.link.data().len();
            client.link.consume(count);
            let Some(rest) = left.checked_sub(count) else {
                return Poll::Ready(Err(Error::client(Phase::Body, Crime::BodyTooLarge)));
            };
            left = rest;
        }
    })
    .await
    .or_else(|_| {
        client.keep_alive = false; // the answer has gone out: this is no failure of the exchange
        Ok(())
    })
}

/// Passes an upstream's answer on.
#[allow(clippy::manual_async_fn)]
fn relay<'a>(
    call: &'a mut Call<'_>,
    mut answered: Answered,
    route: &'a Route,
    bounds: &'a Bounds,
    ran: usize,
) -> impl Future<Output = Result<(), Error>> {
    // Not an `async fn`: that would keep what has been answered twice.
    async move {
        let Call { x, client, worker, .. } = call;
        if x.request.websocket {
            client.keep_alive = false; // what follows was meant for a tunnel that is not there (attack A30)
        }
        let framing = reply::head(x, client, worker);
        let link = answered.answer.lease.link().ok_or(Error::proxy(Phase::Body, Crime::Internal))?;
        let stages = std::mem::take(&mut x.response.body.stages);
        let mut down = Transfer::new(Side::Upstream, stages, u64::MAX);
        if !client.link.is_stream() && !x.request.trailers {
            down.drop_trailers();
        }
        let mut both = Both {
            client,
            link,
            up: &mut answered.up,
            up_failed: answered.answer.up_failed,
            down: &mut down,
            bounds,
            limits: &route.limits,
            first: true,
        };
        let in_order = match both.run(x, worker).await {
            Ok(in_order) => in_order,
            Err(error) if error.side == Side::Upstream && client.link.nothing_sent() => {
                drop(answered);
                take_back(x, client);
                let mut bounds = *bounds;
                return Box::pin(fail(call, route, &mut bounds, ran, error)).await;
            }
            Err(error) => {
                if framing == Framing::UntilClose {
                    client.link.reset_on_drop(); // a plain end would look like the end of the body (attack A45)
                }
                return Err(error);
            }
        };
        if answered.end(in_order, worker.clock.now()) {
            return Ok(());
        }
        drain(client, worker).await
    }
}

/// The answer broke off before a byte of it went out: the client gets a whole one that says so.
fn take_back(x: &mut Exchange, client: &mut Client) {
    client.link.take_back_output();
    client.keep_alive = false;
    x.bytes_down = 0;
}

/// Passes a `101` on and becomes a tunnel.
async fn switch(call: &mut Call<'_>, answered: Answered, route: &Route) -> Result<(), Error> {
    let Call { x, client, run, worker, .. } = call;
    let Answer { mut lease, .. } = answered.answer;
    let pool = Rc::clone(lease.pool());
    let drain = x.labels.pool.and_then(|at| run.snapshot.pool(at)).and_then(|pool| pool.drain);
    client.keep_alive = false;
    client.aside = Some(worker.turnstile.crowd.set_aside());
    reply::head(x, client, worker);
    let link = lease.link().ok_or(Error::proxy(Phase::Body, Crime::Internal))?;
    let retired = || pool.latest().retired().or(run.retired.get());
    let bounds = tunnel::Bounds { idle: route.limits.tunnel_idle, drain, retired: &retired };
    tunnel::run(x, client, link, bounds, worker).await
}
