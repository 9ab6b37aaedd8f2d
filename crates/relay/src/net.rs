//! net: every call to the operating system's network.

use crate::plan::Listen;
use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;

/// Open listeners.
#[derive(Clone, Default)]
pub struct Sockets {
    list: Vec<std::sync::Arc<TcpListener>>,
}

impl Sockets {
    /// Opens all or nothing.
    pub fn open(
        listen: &BTreeSet<Listen>,
        _: usize,
        _: Option<&Sockets>,
    ) -> Result<Sockets, (Listen, io::Error)> {
        let mut list = Vec::new();
        for listen in listen {
            if let Listen::Tcp(address) = listen {
                list.push(TcpListener::bind(address).map_err(|error| (listen.clone(), error))?.into());
            }
        }
        Ok(Sockets { list })
    }
    /// Where they are.
    pub fn addresses(&self) -> Vec<String> {
        self.list.iter().filter_map(|l| l.local_addr().ok()).map(|a| a.to_string()).collect()
    }
}
