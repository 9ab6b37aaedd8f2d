//! The words: what a request is. No I/O, no clock, no protocol, no async.

pub mod body;
pub mod duration;
pub mod error;
pub mod exchange;
pub mod fields;
pub mod limits;
pub mod method;
pub mod name;
pub mod peer;
pub mod request;
pub mod response;
pub mod target;
pub mod time;

pub use body::{Body, Stage};
pub use error::{Crime, Error, Phase, Retry, Side};
pub use exchange::{Exchange, Protocol, RequestId};
pub use fields::{FieldValue, Fields};
pub use limits::Limits;
pub use method::Method;
pub use name::{FieldName, Known};
pub use peer::{Identity, Peer, Proof};
pub use request::Request;
pub use response::{Response, Status};
pub use target::{Scheme, Target};
pub use time::Tick;
