//! Call: an exchange that is being served, with all that every step of its way has at hand.

use crate::client::{Client, Scratch};
use crate::run::Run;
use crate::worker::Worker;
use portunus_message::Exchange;

/// An exchange, who asks, and who serves it. One thing instead of five: futures keep their arguments, and keep them twice.
pub struct Call<'a> {
    /// The exchange.
    pub x: &'a mut Exchange,
    /// Its client.
    pub client: &'a mut Client,
    /// What else is used in its course.
    pub scratch: &'a mut Scratch,
    /// What the worker runs.
    pub run: &'a Run,
    /// The worker.
    pub worker: &'a Worker,
}
