//! h2_conformance: every rule of RFC 9113 and RFC 7541 that a client can put to the test, one raw case each.

mod answers;
mod flow;
mod frames;
mod heads;
mod hpack;
mod settings;
mod streams;
