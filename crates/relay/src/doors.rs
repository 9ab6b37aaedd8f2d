//! Doors: a worker's listeners — opened, left open over a reload, and closed without losing whoever was let in last.

use crate::accept;
use crate::net::{Listener, Sockets};
use crate::plan::Listen;
use crate::worker::Worker;
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long a listener that closes is still read: for the handshakes that were under way when it was decided.
const LAST_CALL: Duration = Duration::from_millis(100);

/// A worker's listeners, by their address.
#[derive(Default)]
pub struct Doors(HashMap<Listen, Vec<Door>>);

struct Door {
    listener: Rc<Listener>,
    listen: Rc<Listen>,
    ours: SocketAddr,
    /// Whether the socket goes on without this program, so that whoever waits in it loses nothing.
    lent: bool,
    task: JoinHandle<()>,
}

impl Doors {
    /// Listens on `sockets` and nowhere else; listeners that are open already stay as they are.
    pub fn open(&mut self, sockets: &Sockets, worker: &Rc<Worker>) {
        let gone: Vec<Listen> = self.0.keys().filter(|listen| !sockets.has(listen)).cloned().collect();
        for listen in gone {
            self.close(&listen, worker);
        }
        let known = |listen: &Listen| self.0.contains_key(listen);
        for (listen, ours, listener) in sockets.of_worker(worker.index(), worker.count(), known) {
            let (listener, name) = (Rc::new(listener), Rc::new(listen.clone()));
            let task = accept::listen(Rc::clone(&listener), Rc::clone(&name), ours, Rc::clone(worker));
            let task = tokio::task::spawn_local(task);
            let lent = sockets.is_lent(&listen);
            self.0.entry(listen).or_default().push(Door { listener, listen: name, ours, lent, task });
        }
    }

    /// Stops listening everywhere. What is `handed_over` is read by somebody else, and left as it is.
    pub fn close_all(&mut self, handed_over: &BTreeSet<Listen>, worker: &Rc<Worker>) {
        for listen in self.0.keys().cloned().collect::<Vec<_>>() {
            if handed_over.contains(&listen) {
                let doors = self.0.remove(&listen).unwrap_or_default();
                doors.iter().for_each(|door| door.task.abort());
            } else {
                self.close(&listen, worker);
            }
        }
    }

    /// Stops listening; whoever has been let in by the kernel already is served.
    fn close(&mut self, listen: &Listen, worker: &Rc<Worker>) {
        for door in self.0.remove(listen).unwrap_or_default() {
            if !door.lent {
                door.listener.turn_away();
            }
            worker.begins_last_call();
            let worker = Rc::clone(worker);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(LAST_CALL).await;
                door.task.abort();
                accept::empty(&door.listener, &door.listen, door.ours, &worker);
                drop(door);
                worker.ends_last_call();
            });
        }
    }
}
