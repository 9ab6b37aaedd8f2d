//! give: heads of answers, and trailers, become blocks of fields.

use super::hpack::Encoder;
use crate::hop;
use portunus_message::{FieldValue, Fields, Known, Response, Status};

/// The head of an answer that waits to be sent.
#[derive(Debug, Default)]
pub struct Answer {
    status: Option<Status>,
    fields: Fields,
    length: Option<u64>,
}

impl Answer {
    /// Takes over the head of an answer; its body is so long, if that can be told. `date` is written unless the answer has one. What tells
    /// a client of HTTP/1.1 that its protocol is switched is a mere 200 here (RFC 8441 §5).
    pub fn take(&mut self, response: &Response, length: Option<u64>, date: &[u8]) {
        let switched = response.status == Status::SWITCHING_PROTOCOLS;
        let status = if switched { Status::OK } else { response.status };
        self.fields.clear();
        self.fields.append(&response.fields);
        if switched {
            self.fields.remove(Known::SEC_WEBSOCKET_ACCEPT);
        }
        if let Some(date) = FieldValue::new(date).filter(|_| !response.fields.has(Known::DATE)) {
            self.fields.push(Known::DATE, b"date", date);
        }
        // RFC 9110 §8.6: none in a 1xx or 204.
        let may_tell = !status.is_informational() && status != Status::NO_CONTENT && !switched;
        self.length = length.filter(|_| may_tell);
        self.status = Some(status);
    }

    /// Writes the block, if there is one to write, and forgets it.
    pub fn give(&mut self, encoder: &mut Encoder, out: &mut Vec<u8>) {
        let Some(status) = self.status.take() else { return };
        encoder.begin(out);
        encoder.status(status.code(), out);
        fields(&self.fields, encoder, out);
        if let Some(length) = self.length {
            let mut digits = [0; 20];
            encoder.field(Known::CONTENT_LENGTH, b"content-length", decimal(length, &mut digits), out);
        }
        self.fields.clear();
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.status.is_none()
    }

    /// Forgets it.
    pub fn clear(&mut self) {
        self.status = None;
        self.fields.clear();
    }
}

/// Writes the block of an informational head (RFC 9110 §15.2).
pub fn informational(status: Status, fields_of: &Fields, encoder: &mut Encoder, out: &mut Vec<u8>) {
    encoder.begin(out);
    encoder.status(status.code(), out);
    fields(fields_of, encoder, out);
}

fn fields(fields: &Fields, encoder: &mut Encoder, out: &mut Vec<u8>) {
    for (known, name, value) in fields.iter() {
        if hop::crosses_down(known, name) {
            encoder.field(known, name, value, out);
        }
    }
}

/// Writes the block of trailers. What may not stand there is left out once more.
pub fn trailers(fields: &Fields, encoder: &mut Encoder, out: &mut Vec<u8>) {
    encoder.begin(out);
    for (known, name, value) in fields.iter() {
        if hop::may_trail(known, name) {
            encoder.field(known, name, value, out);
        }
    }
}

/// `number` in decimal digits.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    digits.get(at..).unwrap_or(&[])
}
