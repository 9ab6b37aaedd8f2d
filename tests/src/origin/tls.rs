//! tls: an origin that speaks TLS, and remembers who it was taken for.

use super::{Answer, Connection, Origin, lock};
use crate::message::Request;
use rustls::ServerConfig;
use std::sync::Arc;
use std::time::Duration;

impl Origin {
    /// The same over TLS; hands are shaken by `config`.
    pub fn serve_tls(
        config: &Arc<ServerConfig>,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Origin {
        let config = Arc::clone(config);
        Origin::script(move |connection| {
            if !connection.secure(&config) {
                return;
            }
            while let Some(request) = connection.request() {
                if !connection.answer(answer(&request)) || request.fields.all("connection").contains(&"close")
                {
                    break;
                }
            }
        })
    }

    /// The names that clients have asked for in their handshakes, each with whether a session was resumed.
    pub fn handshakes(&self) -> Vec<(Option<String>, bool)> {
        lock(&self.shared.handshakes).clone()
    }
}

impl Connection {
    /// Shakes hands; what follows is spoken over TLS. Whether that has worked out.
    pub fn secure(&mut self, config: &Arc<ServerConfig>) -> bool {
        let socket = lock(&self.shared.streams).get(&self.index).and_then(|stream| stream.try_clone().ok());
        let Some((mut wire, name, resumed)) = socket.and_then(|socket| crate::tls::accept(config, socket))
        else {
            return false;
        };
        lock(&self.shared.handshakes).push((name, resumed));
        wire.patience = Duration::from_secs(60);
        self.wire = Some(wire);
        true
    }
}
