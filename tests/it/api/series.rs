//! Series as clients meet them: written, listed, asked, deleted.

mod query;
mod write;

use holdfast::base::time::Clock as _;
use holdfast::testing::clock::SystemClock;
use serde_json::{Value, json};

use super::{by_both_doors, new_secret, new_tenant};
use crate::support::{Answer, Client, fresh};

/// A metric that nobody else uses.
struct Metric<'s> {
    client: Client<'s>,
    name: String,
}

fn now_ms() -> i64 {
    SystemClock::new().now().wall.unix_ms()
}

/// Percent-encodes what stands in a query.
fn encoded(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    let encode = |b: u8| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(encode).collect()
}

fn post(client: &Client<'_>, query: &str, content_type: &str, body: &[u8]) -> Answer {
    let request = client.request("POST", &format!("/v1/series{query}"));
    client.send(&request.header("Content-Type", content_type).body(body))
}

impl<'s> Metric<'s> {
    fn new(client: &Client<'s>) -> Metric<'s> {
        Metric { client: client.clone(), name: fresh("metric").replace('-', "_") }
    }

    /// A sample of it with these further fields.
    fn sample(&self, value: &Value, more: &Value) -> Value {
        let mut sample = json!({ "metric": self.name, "value": value });
        for (name, value) in more.as_object().unwrap() {
            sample[name] = value.clone();
        }
        sample
    }

    #[track_caller]
    fn write(&self, samples: &[Value]) -> Value {
        self.client.post("/v1/series", &json!({ "samples": samples })).expect(202)
    }

    fn text(&self, lines: &str) -> Answer {
        let text = lines.replace("METRIC", &self.name);
        post(&self.client, "", "text/plain; version=0.0.4", text.as_bytes())
    }

    fn ask(&self, rest: &str) -> Answer {
        let select = encoded(&self.name);
        self.client.get(&format!("/v1/series/query?select={select}&{rest}"))
    }

    fn list(&self) -> Value {
        let page = self.client.get(&format!("/v1/series?match={}", self.name)).expect(200);
        page["items"].clone()
    }
}

#[test]
fn tenants_do_not_see_each_other() {
    by_both_doors(|client| {
        let tenants = [new_tenant(client), new_tenant(client)];
        let scopes = ["series:read", "series:write"];
        let [one, other] = tenants.each_ref().map(|name| new_secret(client, name, &scopes));
        let mine = Metric::new(&client.with_token(&one));
        mine.write(&[mine.sample(&json!(1), &json!({ "labels": { "host": "a" } }))]);
        assert_eq!(
            mine.list(),
            json!([{ "metric": mine.name, "labels": { "host": "a" }, "kind": "gauge" }])
        );
        let theirs = Metric { client: client.with_token(&other), name: mine.name.clone() };
        assert_eq!(theirs.list(), json!([]));
        assert_eq!(theirs.ask("fn=last").expect(200)["series"], json!([]));
        // And what the one deletes is the one's.
        theirs.write(&[theirs.sample(&json!(2), &json!({}))]);
        let path = format!("/v1/series?match={}", mine.name);
        let request = client.request("DELETE", &path).header("Holdfast-Tenant", &tenants[1]);
        assert_eq!(client.send(&request).expect(200), json!({ "deleted": 1 }));
        assert_eq!((theirs.list(), mine.list().as_array().unwrap().len()), (json!([]), 1));
    });
}

#[test]
fn each_call_needs_its_scope() {
    by_both_doors(|client| {
        let reader = client.with_token(&new_secret(client, "default", &["series:read"]));
        let writer = client.with_token(&new_secret(client, "default", &["series:write"]));
        let body = json!({ "samples": [] });
        let refused = reader.post("/v1/series", &body).expect_problem(403, "forbidden");
        assert_eq!(refused["scope"], "series:write");
        writer.post("/v1/series", &body).expect(202);
        for path in ["/v1/series", "/v1/series/query?select=x"] {
            let refused = writer.get(path).expect_problem(403, "forbidden");
            assert_eq!(refused["scope"], "series:read");
            reader.get(path).expect(200);
        }
        let batch = json!({ "queries": {} });
        writer.post("/v1/series/query_batch", &batch).expect_problem(403, "forbidden");
        reader.post("/v1/series/query_batch", &batch).expect(200);
        for client in [&reader, &writer] {
            let refused = client.delete("/v1/series?match=x").expect_problem(403, "forbidden");
            assert_eq!(refused["scope"], "admin");
        }
        let stranger = client.stranger();
        stranger.get("/v1/series").expect_problem(401, "unauthenticated");
    });
}

#[test]
fn a_list_has_pages_in_the_order_in_which_series_came() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        for host in ["c", "a", "b"] {
            metric.write(&[metric.sample(&json!(1), &json!({ "labels": { "host": host } }))]);
        }
        let path = format!("/v1/series?match={}&limit=2", metric.name);
        let first = client.get(&path).expect(200);
        let cursor = first["next"].as_str().unwrap();
        let second = client.get(&format!("{path}&cursor={cursor}")).expect(200);
        assert_eq!(second["next"], Value::Null);
        let hosts = |page: &Value| {
            let items = page["items"].as_array().unwrap().iter();
            items
                .map(|item| item["labels"]["host"].as_str().unwrap().to_owned())
                .collect::<String>()
        };
        assert_eq!((hosts(&first), hosts(&second)), ("ca".to_owned(), "b".to_owned()));
        let wanted = encoded(&format!("{}{{host=~\"a|b\",host!=\"b\"}}", metric.name));
        let page = client.get(&format!("/v1/series?match={wanted}")).expect(200);
        assert_eq!(hosts(&page), "a");

        client.get("/v1/series?limit=0").expect_problem(400, "invalid_limit");
        client.get("/v1/series?cursor=00").expect_problem(400, "invalid_cursor");
        let other = client.get("/v1/tenants?limit=1").expect(200)["next"].clone();
        if let Some(other) = other.as_str() {
            let refused = client.get(&format!("/v1/series?cursor={other}"));
            refused.expect_problem(400, "invalid_cursor");
        }
        let refused = client.get("/v1/series?match=cpu%7B").expect_problem(400, "invalid_match");
        assert!(refused["at"].is_u64(), "{refused}");
        client.get("/v1/series?metch=x").expect_problem(400, "unknown_parameter");
    });
}

#[test]
fn what_is_deleted_is_gone_and_the_rest_stays() {
    by_both_doors(|client| {
        let metric = Metric::new(client);
        for host in ["a", "b"] {
            metric.write(&[metric.sample(&json!(1), &json!({ "labels": { "host": host } }))]);
        }
        let wanted = encoded(&format!("{}{{host=\"a\"}}", metric.name));
        let path = format!("/v1/series?match={wanted}");
        assert_eq!(client.delete(&path).expect(200), json!({ "deleted": 1 }));
        assert_eq!(client.delete(&path).expect(200), json!({ "deleted": 0 }));
        let audit = client.get("/v1/audit?limit=1000").expect(200);
        let selector = format!("{}{{host=\"a\"}}", metric.name);
        let noted: Vec<_> = audit["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|item| item["object"] == *selector)
            .collect();
        assert_eq!(noted.len(), 1, "{audit}");
        assert_eq!(
            (&noted[0]["action"], &noted[0]["detail"]),
            (&json!("series.delete"), &json!("1 deleted"))
        );
        assert_eq!(metric.list().as_array().unwrap().len(), 1);
        let left = metric.ask("fn=last").expect(200);
        assert_eq!(left["series"].as_array().unwrap().len(), 1);
        assert_eq!(left["series"][0]["labels"], json!({ "host": "b" }));
        client.delete("/v1/series").expect_problem(400, "invalid_match");
        client.delete("/v1/series?match=").expect_problem(400, "invalid_match");
        client.delete("/v1/series?match=%7B%7D").expect_problem(400, "invalid_match");
    });
}
