//! The HTTP API as clients meet it: the real binary, real sockets, every rule by TCP and by the Unix
//! socket.

mod access;
mod appliance;
mod bodies;
mod cache;
mod framing;
mod headers;
mod queue;
mod series;
mod server;
mod tls;
mod trends;

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Client, Door, Server, fresh};

/// A tier beside the standard one, for those who need a tier, and a class of the cache that soon ends. The
/// tier stands at the end: some add to it.
const CONFIG: &str = "[cache.class.brief]\nttl = \"20ms\"\nstale = \"1h\"\n\
                      [tier.small]\ntokens = 2\nqueues = 5\n";

/// The server of all tests that leave nothing behind which others would trip over. It ends with the last
/// test that uses it.
fn shared() -> Arc<Server> {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut server = SERVER.lock();
    server.upgrade().unwrap_or_else(|| {
        let started = Arc::new(Server::start_with(CONFIG, &[]));
        *server = Arc::downgrade(&started);
        started
    })
}

/// Checks something by both doors of `server`.
#[expect(clippy::print_stdout, reason = "by which door it failed belongs to a failure")]
fn by_both_doors_of(server: &Server, check: impl Fn(&Client<'_>)) {
    for door in [Door::Tcp, Door::Unix] {
        println!("by {door:?}");
        check(&server.client(door));
    }
}

/// Checks something by both doors of the shared server.
fn by_both_doors(check: impl Fn(&Client<'_>)) {
    by_both_doors_of(&shared(), check);
}

/// A tenant that nobody else uses.
fn new_tenant(client: &Client<'_>) -> String {
    let name = fresh("tenant");
    client.put(&format!("/v1/tenants/{name}"), &json!({})).expect(201);
    name
}

/// A token as `POST /v1/tokens` gives it, for this tenant, with these scopes.
fn new_token(client: &Client<'_>, tenant: &str, scopes: &[&str]) -> Value {
    let body = json!({ "name": fresh("token"), "scopes": scopes, "tenant": tenant });
    client.post("/v1/tokens", &body).expect(201)
}

/// The secret of a new token.
fn new_secret(client: &Client<'_>, tenant: &str, scopes: &[&str]) -> String {
    text(&new_token(client, tenant, scopes)["secret"]).to_owned()
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
