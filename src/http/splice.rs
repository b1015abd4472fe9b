//! Objects of JSON in which some values are text that is JSON already, and goes out as it came in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;

use crate::queue::job::Payload;

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Object<'o> {
    /// Begins with the fields of `head`, which is an object, at the end of `out`.
    pub(super) fn begin(out: &'o mut Vec<u8>, head: &impl Serialize) -> Object<'o> {
        serde_json::to_writer(&mut *out, head).expect("BUG: what we answer is plain JSON");
        assert_eq!(out.pop(), Some(b'}'), "BUG: the head is an object");
        Object { out }
    }

    fn name(&mut self, name: &'static str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Adds a field whose value is JSON already.
    pub(super) fn json(&mut self, name: &'static str, text: &[u8]) {
        self.name(name);
        self.out.extend_from_slice(text);
    }

    /// Adds a field.
    pub(super) fn field(&mut self, name: &'static str, value: &impl Serialize) {
        self.name(name);
        serde_json::to_writer(&mut *self.out, value).expect("BUG: what we answer is plain JSON");
    }

    /// Adds what a job carries: as it stood in the call that pushed it, or in base64 with its type.
    pub(super) fn payload(&mut self, payload: &Payload) {
        let Some(content_type) = &payload.content_type else {
            return self.json("payload", &payload.bytes);
        };
        // Base64 needs no escaping, so it is written where it belongs.
        self.name("payload_base64");
        self.out.push(b'"');
        let begin = self.out.len();
        let length = base64::encoded_len(payload.bytes.len(), true);
        self.out.resize(begin + length.expect("BUG: a payload has a bound"), 0);
        let written = BASE64.encode_slice(&payload.bytes, &mut self.out[begin..]);
        assert_eq!(written.ok(), length, "BUG: there is as much room as is needed");
        self.out.push(b'"');
        self.field("content_type", content_type);
    }

    /// Ends it.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }
}
