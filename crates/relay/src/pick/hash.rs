//! `hash`: the same key goes to the same host, as long as it is there.

use super::keyed::{BOUNDED, Keyed, METHOD};
use super::{Key, Pick};
use crate::entry::{ArgMistake, At, Entry, Kind, Param, Place};
use crate::hosts::{HostId, HostSet, Hosts};
use crate::template::Template;

pub(super) const ENTRY: Entry<dyn Pick> = Entry {
    name: "hash",
    manual: "Gives requests with the same key to the same server. The key is a template, as `${header.x-user}` or \
             `${path}`. When a server goes, only its keys move; when it comes back, they return. Weights count.",
    example: "hash ${header.x-user}",
    params: PARAMS,
    answers: false,
    build: |args| {
        let reader = crate::args::Reader::new(PARAMS, args)?;
        let (at, text) = reader.required_word("key")?;
        let key = crate::args::request_template(text, At::Word(at))?;
        if key.literal().is_some() {
            let reason = "is the same key for every request, so all would go to one server";
            return Err(
                ArgMistake::word(at, reason).hint("write what differs, as `${client.ip}` or `${path}`")
            );
        }
        Ok(Box::new(Hash { key, keyed: Keyed::read(&reader)? }))
    },
};

const PARAMS: &[Param] = &[
    Param { name: "key", place: Place::Word, kind: Kind::Template, manual: "What is hashed." },
    METHOD,
    BOUNDED,
];

struct Hash {
    key: Template,
    keyed: Keyed,
}

impl Pick for Hash {
    fn pick(&self, hosts: &Hosts, key: &Key<'_>, tried: &HostSet) -> Option<HostId> {
        self.keyed.choose(hosts, key.text, key.now, tried)
    }

    fn prepare(&mut self, hosts: &Hosts) {
        self.keyed.prepare(hosts);
    }

    fn key(&self) -> Option<&Template> {
        Some(&self.key)
    }
}
