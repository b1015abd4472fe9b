//! Tokens, tenants, lists, audit, slow log, figures, status, reload, and the document of it all.

use std::collections::BTreeSet;

use expect_test::expect_file;
use serde_json::{Value, json};

use super::{
    CONFIG, by_both_doors, by_both_doors_of, new_secret, new_tenant, new_token, shared, text,
};
use crate::support::{Client, Door, Request, Server, fresh, run, wait_until};

const LISTS: [&str; 4] = ["/v1/tokens", "/v1/tenants", "/v1/slow", "/v1/audit"];

fn items(list: &Value) -> &Vec<Value> {
    list["items"].as_array().unwrap()
}

/// Every item of a list, page by page.
fn all_items(client: &Client<'_>, request: impl Fn(&str) -> Request) -> (Vec<Value>, Vec<usize>) {
    let (mut all, mut pages, mut query) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = client.send(&request(&query)).expect(200);
        pages.push(items(&page).len());
        all.extend(items(&page).iter().cloned());
        match &page["next"] {
            Value::Null => return (all, pages),
            next => query = format!("cursor={}", text(next)),
        }
    }
}

#[test]
fn a_limit_is_a_number_from_1_to_1000() {
    by_both_doors(|client| {
        for list in LISTS {
            for limit in
                ["0", "1001", "abc", "-1", "1.5", "", "1e2", "0x10", "99999999999999999999"]
            {
                let answer = client.get(&format!("{list}?limit={limit}"));
                answer.expect_problem(400, "invalid_limit");
            }
            for limit in ["1", "1000"] {
                let page = client.get(&format!("{list}?limit={limit}")).expect(200);
                assert!(page["items"].is_array() && page.get("next").is_some(), "{page}");
                assert_eq!(page.as_object().unwrap().len(), 2, "{page}");
            }
        }
    });
}

#[test]
fn a_cursor_belongs_to_its_list() {
    by_both_doors(|client| {
        new_tenant(client);
        for _ in 0..2 {
            new_token(client, "default", &["cache:read"]);
        }
        let entry = |name: &str| json!({ "kind": "app", "name": name, "duration_ms": 5 });
        let report = json!({ "entries": [entry("one"), entry("two")] });
        client.post("/v1/slow", &report).expect(200);
        for list in LISTS {
            let page = client.get(&format!("{list}?limit=1")).expect(200);
            let cursor = text(&page["next"]);
            client.get(&format!("{list}?limit=1&cursor={cursor}")).expect(200);
            for other in LISTS.into_iter().filter(|other| *other != list) {
                let answer = client.get(&format!("{other}?cursor={cursor}"));
                answer.expect_problem(400, "invalid_cursor");
            }
            let cut = &cursor[..cursor.len() - 2];
            let changed = format!("{cut}zz");
            for wrong in ["", "0", "nonsense", cut, &changed, &"0".repeat(3000)] {
                let answer = client.get(&format!("{list}?cursor={wrong}"));
                answer.expect_problem(400, "invalid_cursor");
            }
        }
    });
}

#[test]
fn paging_shows_everything_once() {
    let server = shared();
    let client = server.client(Door::Unix);
    let tenant = new_tenant(&client);
    let mut connection = client.connect();
    let mut made = BTreeSet::new();
    for n in 0..120 {
        let body = json!({ "name": format!("{n}"), "scopes": ["cache:read"], "tenant": tenant });
        let token = connection.ask(&client.request("POST", "/v1/tokens").json(&body)).expect(201);
        made.insert(text(&token["id"]).to_owned());
    }
    by_both_doors_of(&server, |client| {
        for (limit, expected) in [
            ("", &[50, 50, 20][..]),
            ("limit=40&", &[40, 40, 40]),
            ("limit=7&", &[[7; 17].as_slice(), &[1]].concat()),
            ("limit=1000&", &[120]),
        ] {
            let (all, pages) = all_items(client, |query| {
                let request = client.request("GET", &format!("/v1/tokens?{limit}{query}"));
                request.header("Holdfast-Tenant", &tenant)
            });
            assert_eq!(pages, expected, "{limit}");
            let ids: Vec<String> = all.iter().map(|item| text(&item["id"]).to_owned()).collect();
            assert_eq!(ids.len(), 120, "each once");
            assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), made);
        }
    });
}

#[test]
fn a_token_is_shown_whole_once() {
    by_both_doors(|client| {
        let name = fresh("shown");
        let body = json!({ "name": name, "scopes": ["series:read", "cache:read"] });
        let answer = client.post("/v1/tokens", &body);
        let made = answer.expect(201);
        let members: Vec<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            members,
            [
                "created_at",
                "expires_at",
                "id",
                "last_used_at",
                "name",
                "scopes",
                "secret",
                "tenant"
            ]
        );
        assert_eq!(made["name"], name);
        assert_eq!(made["tenant"], "default");
        assert_eq!(made["scopes"], json!(["cache:read", "series:read"]));
        assert_eq!((&made["expires_at"], &made["last_used_at"]), (&Value::Null, &Value::Null));
        let secret = text(&made["secret"]);
        assert!(secret.starts_with(&format!("hf_app_{}_", text(&made["id"]))), "{secret}");

        let find = || {
            let list = client.get("/v1/tokens?limit=1000");
            assert!(!list.text().contains(secret.split('_').nth(3).unwrap()));
            let list = list.json();
            items(&list).iter().find(|item| item["id"] == made["id"]).unwrap().clone()
        };
        assert_eq!(find()["last_used_at"], Value::Null);
        client.with_token(secret).get("/v1/status").expect(200);
        assert!(text(&made["created_at"]) <= text(&find()["last_used_at"]));
    });
}

#[test]
fn an_administrators_token_says_so() {
    by_both_doors(|client| {
        let made = new_token(client, "default", &["admin"]);
        assert!(text(&made["secret"]).starts_with("hf_admin_"));
        let its = client.with_token(text(&made["secret"]));
        its.get("/v1/audit").expect(200);
        // It may revoke itself.
        let path = format!("/v1/tokens/{}", text(&made["id"]));
        assert_eq!(its.delete(&path).status, 204);
        its.get("/v1/audit").expect_problem(401, "unauthenticated");
    });
}

#[test]
fn a_token_that_makes_no_sense_is_not_made() {
    by_both_doors(|client| {
        let tenant = new_tenant(client);
        let name = fresh("never");
        let refused = |change: &[(&str, Value)], code: &str| {
            let mut body = json!({ "name": name, "scopes": ["cache:read"] });
            for (field, value) in change {
                body[*field] = value.clone();
            }
            let status = if code == "unknown_tenant" { 404 } else { 400 };
            client.post("/v1/tokens", &body).expect_problem(status, code)
        };
        for name in ["", &"x".repeat(129), "a\nb", "a\u{7f}b", "\0"] {
            refused(&[("name", json!(name))], "invalid_name");
        }
        for scopes in [
            json!([]),
            json!(["cache"]),
            json!(["Admin"]),
            json!([""]),
            json!(["*"]),
            json!(["cache:read", "cache:read"]),
            json!([" cache:read"]),
        ] {
            refused(&[("scopes", scopes)], "invalid_scopes");
        }
        let problem = refused(&[("scopes", json!(["cache:raed"]))], "invalid_scopes");
        assert!(text(&problem["detail"]).contains("cache:read, cache:write"), "{problem}");
        refused(&[("scopes", json!(["admin"])), ("tenant", json!(tenant))], "invalid_scopes");
        refused(&[("tenant", json!("a b"))], "invalid_tenant");
        refused(&[("tenant", json!(fresh("nobody")))], "unknown_tenant");
        for after in [json!(0), json!("0s"), json!("0")] {
            refused(&[("expires_in", after)], "invalid_expires_in");
        }
        for after in [
            json!(-1),
            json!("-1s"),
            json!("soon"),
            json!("1w"),
            json!(""),
            json!(true),
            json!([]),
            json!({}),
            json!("1 h"),
            json!(0.0001),
            json!("99999999d"),
            json!(1e300),
        ] {
            refused(&[("expires_in", after)], "invalid_duration");
        }
        let contradiction = json!({ "name": name, "scopes": ["cache:read"], "tenant": "default" });
        let request = client.request("POST", "/v1/tokens").header("Holdfast-Tenant", &tenant);
        client.send(&request.json(&contradiction)).expect_problem(400, "malformed");
        let (all, _) = all_items(client, |query| {
            client.request("GET", &format!("/v1/tokens?limit=1000&{query}"))
        });
        assert!(all.iter().all(|token| token["name"] != name));
    });
}

#[test]
fn a_token_that_is_not_there_cannot_be_revoked() {
    by_both_doors(|client| {
        let secret = new_secret(client, "default", &["cache:read"]);
        for id in ["0000000000000", "zzzzzzzzzzzzz", "x", "nonsense", "%20", &secret] {
            client.delete(&format!("/v1/tokens/{id}")).expect_problem(404, "unknown_token");
        }
    });
}

#[test]
fn a_tenant_is_made_changed_shown_and_listed() {
    by_both_doors(|client| {
        let name = fresh("shop");
        let path = format!("/v1/tenants/{name}");
        client.get(&path).expect_problem(404, "unknown_tenant");
        let answer = client.put(&path, &json!({ "tier": "small", "quotas": { "series": 7 } }));
        let made = answer.expect(201);
        assert_eq!(answer.header("location"), Some(path.as_str()));
        assert_eq!(made["name"], name);
        assert_eq!((&made["tier"], &made["tier_known"]), (&json!("small"), &json!(true)));
        assert_eq!(made["own_quotas"], json!({ "series": 7 }));
        assert_eq!(
            made["quotas"],
            json!({ "cache_bytes": -1, "queues": 5, "jobs_waiting": -1, "jobs_per_day": -1,
                    "series": 7, "monitors": -1, "tokens": 2 })
        );
        assert_eq!(made["tokens"], 0);
        assert_eq!(client.get(&path).expect(200), made);

        // What is left out stays; quotas are replaced whole.
        let changed = client.put(&path, &json!({ "quotas": { "tokens": -1 } })).expect(200);
        assert_eq!((&changed["id"], &changed["tier"]), (&made["id"], &made["tier"]));
        assert_eq!(changed["own_quotas"], json!({ "tokens": -1 }));
        assert_eq!(changed["quotas"]["series"], -1);
        let changed = client.put(&path, &json!({ "tier": "standard" })).expect(200);
        assert_eq!(changed["own_quotas"], json!({ "tokens": -1 }));
        assert_eq!(changed["quotas"]["queues"], -1);

        let (all, _) = all_items(client, |query| {
            client.request("GET", &format!("/v1/tenants?limit=3&{query}"))
        });
        let names: Vec<&str> = all.iter().map(|item| text(&item["name"])).collect();
        assert!(names.is_sorted() && names.contains(&name.as_str()) && names.contains(&"default"));
        assert_eq!(all.iter().find(|item| item["name"] == name), Some(&changed));
    });
}

#[test]
fn a_tenant_that_makes_no_sense_is_not_made() {
    by_both_doors(|client| {
        let name = fresh("never");
        let path = format!("/v1/tenants/{name}");
        let refused = |body: Value, code: &str| client.put(&path, &body).expect_problem(400, code);
        let problem = refused(json!({ "tier": "golden" }), "invalid_tier");
        let detail = text(&problem["detail"]);
        assert!(detail.contains("small, standard") && detail.contains("[tier.golden]"), "{detail}");
        for tier in ["", "Small", "a b", &"x".repeat(5000)] {
            refused(json!({ "tier": tier }), "invalid_tier");
        }
        let beyond = 1_u64 << 53;
        for number in
            [json!(-2), json!(1.5), json!("5"), json!(null), json!(beyond), json!(u64::MAX)]
        {
            refused(json!({ "quotas": { "tokens": number } }), "invalid_quotas");
        }
        client.get(&path).expect_problem(404, "unknown_tenant");
        for name in ["a b", "%2e", "..", &"x".repeat(129)] {
            let path = format!("/v1/tenants/{name}").replace(' ', "%20");
            client.put(&path, &json!({})).expect_problem(400, "invalid_tenant");
        }
        let longest = "x".repeat(120) + &fresh("").replace('-', ".");
        client.put(&format!("/v1/tenants/{longest}"), &json!({})).expect(201);
    });
}

#[test]
fn a_tenant_is_deleted_only_when_its_name_is_said_twice() {
    by_both_doors(|client| {
        let name = new_tenant(client);
        for query in ["", "?confirm=", "?confirm=x", "?confirm=DEFAULT", "?confirm"] {
            let problem = client.delete(&format!("/v1/tenants/{name}{query}"));
            let problem = problem.expect_problem(400, "invalid_confirm");
            assert!(text(&problem["detail"]).contains(&format!("?confirm={name}")), "{problem}");
        }
        client.get(&format!("/v1/tenants/{name}")).expect(200);
        let answer = client.delete("/v1/tenants/default?confirm=default");
        answer.expect_problem(409, "tenant_protected");
        let nobody = fresh("nobody");
        let answer = client.delete(&format!("/v1/tenants/{nobody}?confirm={nobody}"));
        answer.expect_problem(404, "unknown_tenant");
    });
}

#[test]
fn the_tokens_of_a_deleted_tenant_end_at_once_and_its_name_is_free() {
    by_both_doors(|client| {
        let name = new_tenant(client);
        let path = format!("/v1/tenants/{name}");
        let id = client.get(&path).expect(200)["id"].clone();
        let theirs = client.with_token(&new_secret(client, &name, &["cache:read"]));
        let ask = || theirs.get("/v1/tokens");
        ask().expect_problem(403, "forbidden");
        let deleting = client.delete(&format!("{path}?confirm={name}")).expect(202);
        assert_eq!(deleting, json!({ "name": name, "state": "deleting" }));
        ask().expect_problem(401, "unauthenticated");
        client.get(&path).expect_problem(404, "unknown_tenant");
        let again = client.delete(&format!("{path}?confirm={name}"));
        again.expect_problem(404, "unknown_tenant");

        let anew = client.put(&path, &json!({})).expect(201);
        assert_ne!(anew["id"], id);
        assert_eq!(anew["tokens"], 0);
        ask().expect_problem(401, "unauthenticated");
        let request = client.request("GET", "/v1/tokens").header("Holdfast-Tenant", &name);
        assert_eq!(client.send(&request).expect(200)["items"], json!([]));
    });
}

#[test]
fn a_quota_of_tokens_holds() {
    by_both_doors(|client| {
        let name = fresh("full");
        let path = format!("/v1/tenants/{name}");
        client.put(&path, &json!({ "tier": "small" })).expect(201);
        let first = new_token(client, &name, &["cache:read"]);
        new_token(client, &name, &["cache:read"]);
        let body = json!({ "name": "third", "scopes": ["cache:read"], "tenant": name });
        let refused = |limit: u64, used: u64| {
            let problem = client.post("/v1/tokens", &body).expect_problem(403, "quota_exceeded");
            assert_eq!(problem["limit"], limit);
            assert_eq!(problem["used"], used);
            assert_eq!(problem["quota"], "tokens");
            assert_eq!(problem["retryable"], false);
            let detail = text(&problem["detail"]);
            assert!(detail.contains(&format!("holdfast tenant set {name}")), "{detail}");
        };
        refused(2, 2);
        assert_eq!(client.get(&path).expect(200)["tokens"], 2);
        client.put(&path, &json!({ "quotas": { "tokens": 3 } })).expect(200);
        client.post("/v1/tokens", &body).expect(201);
        refused(3, 3);
        // Less than there are already is allowed; nothing is taken away.
        client.put(&path, &json!({ "quotas": { "tokens": 0 } })).expect(200);
        refused(0, 3);
        let revoke = client.request("DELETE", &format!("/v1/tokens/{}", text(&first["id"])));
        assert_eq!(client.send(&revoke.header("Holdfast-Tenant", &name)).status, 204);
        refused(0, 2);
        client.put(&path, &json!({ "quotas": { "tokens": -1 } })).expect(200);
        client.post("/v1/tokens", &body).expect(201);
    });
}

/// Does something under an id of its own and gives the entry that the audit log has of it.
fn audited(client: &Client<'_>, request: Request) -> Value {
    let id = fresh("audit");
    let answer = client.send(&request.header("X-Request-Id", &id));
    assert!((200..300).contains(&answer.status), "{answer:?}");
    let page = client.get("/v1/audit?limit=100").expect(200);
    let found: Vec<&Value> =
        items(&page).iter().filter(|entry| entry["request_id"] == id).collect();
    assert_eq!(found.len(), 1, "one entry: {page}");
    let mut entry = found[0].clone();
    entry["body"] = if answer.body.is_empty() { Value::Null } else { answer.json() };
    entry
}

#[test]
fn every_change_is_in_the_audit_log() {
    by_both_doors(|client| {
        let admin = client.server.token().split('_').nth(2).unwrap();
        let check = |entry: &Value, action: &str, object: &str, tenant: Option<&str>| {
            assert_eq!(entry["action"], action);
            assert_eq!(entry["object"], object, "{entry}");
            assert_eq!(entry["tenant"], json!(tenant), "{entry}");
            assert_eq!((&entry["token"], &entry["by"]), (&json!(admin), &json!("administrator")));
            assert!(text(&entry["at"]).ends_with('Z'));
        };
        let tenant = fresh("audited");
        let path = format!("/v1/tenants/{tenant}");
        let spec = json!({ "tier": "small", "quotas": { "queues": 9 } });
        let entry = audited(client, client.request("PUT", &path).json(&spec));
        check(&entry, "tenant.put", &tenant, Some(&tenant));
        assert_eq!(entry["detail"], "tier=small queues=9");

        let spec = json!({ "name": "clerk \"x\"", "scopes": ["cache:read"], "tenant": tenant });
        let entry = audited(client, client.request("POST", "/v1/tokens").json(&spec));
        let id = text(&entry["body"]["id"]).to_owned();
        check(&entry, "token.create", &id, Some(&tenant));
        assert!(text(&entry["detail"]).contains("scopes=cache:read"), "{entry}");
        let secret = text(&entry["body"]["secret"]).split('_').nth(3).unwrap().to_owned();
        assert!(!client.get("/v1/audit?limit=1000").text().contains(&secret));

        let revoke = client.request("DELETE", &format!("/v1/tokens/{id}"));
        let entry = audited(client, revoke.header("Holdfast-Tenant", &tenant));
        check(&entry, "token.revoke", &id, Some(&tenant));
        let delete = client.request("DELETE", &format!("{path}?confirm={tenant}"));
        check(&audited(client, delete), "tenant.delete", &tenant, Some(&tenant));
        let entry = audited(client, client.request("POST", "/v1/reload"));
        check(&entry, "config.reload", "0 changed", None);

        // What is refused changes nothing and is not there.
        let before = client.get("/v1/audit?limit=1").expect(200);
        client.put(&path, &json!({ "tier": "golden" })).expect_problem(400, "invalid_tier");
        client.delete("/v1/tokens/0000000000000").expect_problem(404, "unknown_token");
        let after = client.get("/v1/audit?limit=1").expect(200);
        let newest = |page: &Value| items(page)[0]["at"].clone();
        assert!(text(&newest(&before)) <= text(&newest(&after)));
    });
}

#[test]
fn the_audit_log_begins_with_the_first_start_and_shows_the_newest_first() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        for _ in 0..3 {
            new_token(client, "default", &["cache:read"]);
        }
        let (all, pages) =
            all_items(client, |query| client.request("GET", &format!("/v1/audit?limit=2&{query}")));
        assert!(pages.iter().rev().skip(1).all(|page| *page == 2), "{pages:?}");
        let times: Vec<&str> = all.iter().map(|entry| text(&entry["at"])).collect();
        assert!(times.is_sorted_by(|newer, older| older <= newer), "{times:?}");
        let first = all.last().unwrap();
        assert_eq!((&first["action"], &first["by"]), (&json!("start.first"), &json!("server")));
        assert_eq!(first["token"], Value::Null);
    });
}

#[test]
fn an_app_reports_what_was_slow() {
    by_both_doors(|client| {
        let (page, command) = (fresh("GET /page"), fresh("import"));
        let entries = json!([
            { "kind": "app", "name": page, "duration_ms": 900, "count": 20 },
            { "kind": "app", "name": page, "duration_ms": 1100.5, "count": 3 },
            { "kind": "app", "name": command, "duration_ms": 90_000_000, "count": 21,
              "at": "2026-01-02T03:04:05Z" },
        ]);
        let noted = client.post("/v1/slow", &json!({ "entries": entries })).expect(200);
        assert_eq!(noted, json!({ "accepted": 3 }));
        let list = client.get("/v1/slow?kind=app&limit=1000").expect(200);
        let find =
            |name: &str| items(&list).iter().find(|entry| entry["name"] == name).unwrap().clone();
        let entry = find(&page);
        assert_eq!((&entry["kind"], &entry["count"]), (&json!("app"), &json!(2)));
        assert_eq!((&entry["mean_ms"], &entry["worst_ms"]), (&json!(1000.25), &json!(1100.5)));
        assert_eq!((&entry["queries_max"], &entry["many_queries"]), (&json!(20), &json!(false)));
        let entry = find(&command);
        assert_eq!((&entry["queries_max"], &entry["many_queries"]), (&json!(21), &json!(true)));
        assert_eq!(entry["first_at"], "2026-01-02T03:04:05.000Z");
        assert_eq!(entry["first_at"], entry["last_at"]);
        let worst: Vec<f64> =
            items(&list).iter().map(|entry| entry["worst_ms"].as_f64().unwrap()).collect();
        assert!(worst.is_sorted_by(|a, b| a >= b), "{worst:?}");
        for kind in ["request", "storage", "external", "job"] {
            let list = client.get(&format!("/v1/slow?kind={kind}&limit=1000")).expect(200);
            assert!(items(&list).iter().all(|entry| entry["kind"] == kind), "{list}");
        }
        for kind in ["", "App", "queries", "app,job"] {
            client.get(&format!("/v1/slow?kind={kind}")).expect_problem(400, "invalid_kind");
        }
    });
}

#[test]
fn a_report_is_noted_whole_or_not_at_all() {
    by_both_doors(|client| {
        let name = fresh("never");
        let good = json!({ "kind": "app", "name": name, "duration_ms": 900 });
        let long = "x".repeat(257);
        for (field, value, code) in [
            ("kind", json!("request"), "invalid_kind"),
            ("kind", json!("nonsense"), "invalid_kind"),
            ("name", json!(""), "invalid_name"),
            ("name", json!(long), "invalid_name"),
            ("duration_ms", json!(-1), "invalid_duration"),
            ("duration_ms", json!(1e300), "invalid_duration"),
            ("duration_ms", json!("5"), "malformed"),
            ("count", json!(-1), "malformed"),
            ("count", json!(1.5), "malformed"),
            ("at", json!("yesterday"), "invalid_time"),
            ("at", json!(1_763_640_000_000_u64), "invalid_time"),
            ("at", json!([]), "invalid_time"),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let answer = client.post("/v1/slow", &json!({ "entries": [good, bad] }));
            let problem = answer.expect_problem(400, code);
            if code != "malformed" {
                assert_eq!(problem["index"], 1, "{problem}");
            }
        }
        let many = vec![good.clone(); 1001];
        let problem = client.post("/v1/slow", &json!({ "entries": many }));
        assert_eq!(problem.expect_problem(413, "too_large")["limit"], 1000);
        let list = client.get("/v1/slow?limit=1000").expect(200);
        assert!(items(&list).iter().all(|entry| entry["name"] != name));
        let many = vec![good; 1000];
        client.post("/v1/slow", &json!({ "entries": many })).expect(200);
        assert_eq!(client.post("/v1/slow", &json!({ "entries": [] })).expect(200)["accepted"], 0);
    });
}

/// Checks that a text is what Prometheus reads, and gives its samples: name with labels, and value.
fn exposition(text: &str) -> Vec<(String, String)> {
    let (mut families, mut current) = (BTreeSet::new(), (String::new(), String::new()));
    let (mut help, mut samples) = (None, Vec::new());
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, about) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !about.is_empty(), "{line}");
            assert!(families.insert(name.to_owned()), "{name} is there twice");
            help = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(help.take().as_deref(), Some(name), "HELP stands before TYPE");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            // Counters of the kernel keep the names that everybody gives them.
            let is_kernels = name.starts_with("node_vmstat_");
            assert_eq!(kind == "counter", name.ends_with("_total") || is_kernels, "{line}");
            current = (name.to_owned(), kind.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
                None => (series, ""),
            };
            let mut of_histogram = ["_bucket", "_sum", "_count"].iter();
            let family = match current.1.as_str() {
                "histogram" => of_histogram.find_map(|end| name.strip_suffix(end)),
                _ => Some(name),
            };
            assert_eq!(family, Some(current.0.as_str()), "{line} stands in its family");
            for label in labels.split("\",").filter(|label| !label.is_empty()) {
                let (name, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                let value = value.strip_suffix('"').unwrap_or(value);
                assert!(is_name(name) && !value.contains(['"', '\\']), "{line}");
            }
            samples.push((series.to_owned(), value.to_owned()));
        }
    }
    let unique: BTreeSet<&String> = samples.iter().map(|(series, _)| series).collect();
    assert_eq!(unique.len(), samples.len(), "each series once");
    samples
}

#[test]
fn the_figures_are_what_prometheus_reads() {
    by_both_doors(|client| {
        client.get("/livez").expect(200);
        client.get("/nothing").expect_problem(404, "unknown_path");
        let answer = client.get("/metrics");
        let media_type = answer.header("content-type").unwrap();
        assert!(media_type.starts_with("text/plain; version=0.0.4"), "{media_type}");
        let samples = exposition(answer.text());
        let value = |series: &str| -> u64 {
            let found = samples.iter().find(|(name, _)| name == series);
            found.unwrap_or_else(|| panic!("{series} is missing")).1.parse().unwrap()
        };
        let live = "holdfast_http_requests_total{method=\"GET\",route=\"/livez\",status=\"200\"}";
        assert!(1 <= value(live));
        let other = "holdfast_http_requests_total{method=\"other\",route=\"other\",status=\"404\"}";
        assert!(1 <= value(other));
        assert!(1 <= value("holdfast_http_requests_in_flight"));
        assert_eq!(value("holdfast_panics_total"), 0);
        assert!(1 <= value("holdfast_tenants") && 1 <= value("holdfast_tokens"));
        assert_eq!(value("holdfast_store_state{store=\"catalog\",state=\"open\"}"), 1);
        assert_eq!(value("holdfast_store_state{store=\"series\",state=\"open\"}"), 1);
        assert_eq!(value("holdfast_series_budget_bytes"), 1 << 30);
        for series in [
            "holdfast_series",
            "holdfast_series_open_samples",
            "holdfast_series_samples_total",
            "holdfast_series_refused_total{reason=\"too_old\"}",
            "holdfast_series_live_bytes",
            "holdfast_series_tier_bytes{tier=\"5m\"}",
            "holdfast_series_expired_total{tier=\"raw\",why=\"budget\"}",
            "holdfast_series_wal_bytes",
        ] {
            value(series);
        }
        let bucket = |le: &str| {
            let route = "method=\"GET\",route=\"/livez\"";
            value(&format!("holdfast_http_request_seconds_bucket{{{route},le=\"{le}\"}}"))
        };
        let count = value("holdfast_http_request_seconds_count{method=\"GET\",route=\"/livez\"}");
        assert_eq!(bucket("+Inf"), count);
        assert!(!exposition(client.get("/prometheus").text()).is_empty());
    });
}

#[test]
fn the_figures_are_public_when_the_settings_say_so() {
    let server = Server::start_with("[server]\nmetrics_public = true\n", &[]);
    by_both_doors_of(&server, |client| {
        for path in ["/metrics", "/prometheus"] {
            let answer = client.stranger().get(path);
            assert_eq!(answer.status, 200);
            exposition(answer.text());
            assert_eq!(client.with_token("nonsense").get(path).status, 200);
        }
        client.stranger().get("/v1/status").expect_problem(401, "unauthenticated");
    });
    // A reload takes it back.
    let client = server.client(Door::Tcp);
    server.write_config("");
    let done = client.send(&client.request("POST", "/v1/reload")).expect(200);
    let change = json!({ "key": "server.metrics_public", "from": "true", "to": "false" });
    assert_eq!(done["changed"], json!([change]));
    client.stranger().get("/metrics").expect_problem(401, "unauthenticated");
}

#[test]
fn a_reload_takes_all_of_the_settings_or_none() {
    let server = Server::start_with(CONFIG, &[]);
    let client = server.client(Door::Unix);
    let reload = || client.send(&client.request("POST", "/v1/reload"));
    let nothing = json!({ "changed": [], "needs_restart": [], "warnings": [] });
    assert_eq!(reload().expect(200), nothing);

    server.write_config("[server]\nhosts = [\"shop.example\"]\nmax_conections = 5\n");
    let problem = reload().expect_problem(422, "invalid_config");
    assert_eq!(problem["problems"].as_array().unwrap().len(), 1);
    assert!(text(&problem["problems"][0]).contains("max_connections"), "{problem}");
    let tcp = server.client(Door::Tcp);
    let ours = Request::get("/livez").without("Host").header("Host", "shop.example");
    tcp.send(&ours).expect_problem(421, "unknown_host");

    client.put("/v1/tenants/tiny", &json!({ "tier": "small" })).expect(201);
    server.write_config("[server]\nhosts = [\"shop.example\"]\n");
    let problem = reload().expect_problem(422, "invalid_config");
    assert!(text(&problem["detail"]).contains("tenant tiny is of tier small"), "{problem}");
    tcp.send(&ours).expect_problem(421, "unknown_host");

    server.write_config(&format!(
        "[server]\nhosts = [\"shop.example\"]\nmax_connections = 99\n{CONFIG}monitors = 1\n"
    ));
    for _ in 0..2 {
        let done = reload().expect(200);
        let restart = &done["needs_restart"];
        assert_eq!(restart.as_array().unwrap().len(), 1, "{done}");
        assert_eq!(restart[0]["key"], "server.max_connections");
    }
    tcp.send(&ours).expect(200);
    assert_eq!(client.get("/v1/tenants/tiny").expect(200)["quotas"]["monitors"], 1);
    let status = client.get("/v1/status").expect(200);
    assert_eq!(status["connections"]["max"], 4096, "until the next start");
}

#[test]
fn the_status_tells_how_the_server_stands() {
    by_both_doors(|client| {
        let status = client.get("/v1/status").expect(200);
        let members: Vec<&str> = status.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = [
            "connections",
            "data_format",
            "disk",
            "jobs",
            "pool",
            "process",
            "series",
            "started_at",
            "state",
            "stores",
            "tenants",
            "tokens",
            "uptime_ms",
            "version",
            "warnings",
            "workers",
        ];
        assert_eq!(members, expected);
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((&status["state"], &status["data_format"]), (&json!("ready"), &json!(1)));
        assert_eq!(status["process"]["pid"], client.server.pid());
        let store = &status["stores"][0];
        assert_eq!((&store["name"], &store["state"]), (&json!("catalog"), &json!("open")));
        assert!(1 <= store["bytes"].as_u64().unwrap());
        assert_eq!((&store["failures"], &store["last_failure"]), (&json!(0), &Value::Null));
        for positive in [
            "/connections/open",
            "/connections/max",
            "/pool/threads",
            "/tenants",
            "/tokens",
            "/disk/total_bytes",
            "/process/resident_bytes",
            "/process/descriptors",
        ] {
            let value = status.pointer(positive).and_then(Value::as_u64);
            assert!(value.is_some_and(|n| 1 <= n), "{positive}: {value:?}");
        }
        assert!(status["uptime_ms"].is_u64() && status["workers"].is_array());
        let series = &status["series"];
        assert_eq!(
            (&series["budget_bytes"], &series["log_state"]),
            (&json!(1 << 30), &json!("ok"))
        );
        let tiers = series["tiers"].as_array().unwrap().iter();
        let kept: Vec<_> =
            tiers.map(|t| json!([t["resolution"], t["retention_seconds"]])).collect();
        let day = 86_400;
        let expected =
            json!([["raw", 14 * day], ["5m", 90 * day], ["1h", 730 * day], ["1d", 3650 * day]]);
        assert_eq!(json!(kept), expected);
        for refused in ["malformed", "too_old", "too_new", "too_many_series"] {
            assert!(series["refused"][refused].is_u64(), "{series}");
        }
        assert_eq!(status["warnings"], json!([]));
    });
}

#[test]
fn a_tier_that_is_gone_is_told_in_the_status_and_the_tenants_own_quotas_hold() {
    let mut server = Server::start_with(CONFIG, &[]);
    let tiny = json!({ "tier": "small", "quotas": { "series": 3 } });
    server.client(Door::Unix).put("/v1/tenants/tiny", &tiny).expect(201);
    server.write_config("");
    server.restart();
    by_both_doors_of(&server, |client| {
        let status = client.get("/v1/status").expect(200);
        assert!(text(&status["warnings"][0]).contains("[tier.small]"), "{status}");
        let tenant = client.get("/v1/tenants/tiny").expect(200);
        assert_eq!((&tenant["tier"], &tenant["tier_known"]), (&json!("small"), &json!(false)));
        assert_eq!(
            (&tenant["quotas"]["series"], &tenant["quotas"]["tokens"]),
            (&json!(3), &json!(-1))
        );
    });
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let mut server = Server::start();
    let client = server.client(Door::Tcp);
    client.put("/v1/tenants/shop", &json!({ "quotas": { "tokens": 5 } })).expect(201);
    let kept = new_secret(&client, "default", &["series:read"]);
    let gone = new_token(&client, "default", &["series:read"]);
    let answer = client.delete(&format!("/v1/tokens/{}", text(&gone["id"])));
    assert_eq!(answer.status, 204);
    let before = client.get("/v1/tenants/shop").expect(200);
    server.kill();
    server.restart();
    let client = server.client(Door::Tcp);
    assert_eq!(client.get("/v1/tenants/shop").expect(200), before);
    client.with_token(&kept).get("/v1/status").expect(200);
    let gone = client.with_token(text(&gone["secret"]));
    gone.get("/v1/status").expect_problem(401, "unauthenticated");
}

#[test]
fn a_deleted_tenant_counts_for_nothing_and_does_not_come_back() {
    let mut server = Server::start();
    let client = server.client(Door::Unix);
    let counts = |client: &Client<'_>| {
        let status = client.get("/v1/status").expect(200);
        (status["tenants"].clone(), status["tokens"].clone())
    };
    client.put("/v1/tenants/shop", &json!({})).expect(201);
    let secret = new_secret(&client, "shop", &["cache:read"]);
    assert_eq!(counts(&client), (json!(2), json!(2)));
    client.delete("/v1/tenants/shop?confirm=shop").expect(202);
    assert_eq!(counts(&client), (json!(1), json!(1)));
    server.kill();
    server.restart();
    let client = server.client(Door::Unix);
    assert_eq!(counts(&client), (json!(1), json!(1)));
    client.with_token(&secret).get("/v1/tokens").expect_problem(401, "unauthenticated");
    client.get("/v1/tenants/shop").expect_problem(404, "unknown_tenant");
}

#[test]
fn while_it_ends_what_runs_is_finished_and_idle_connections_are_closed() {
    let mut server = Server::start();
    let client = server.client(Door::Tcp);
    let mut idle = client.connect();
    idle.ask(&Request::get("/livez")).expect(200);
    // Half of a request: the rest comes while the process ends.
    let body = json!({ "name": "last", "scopes": ["cache:read"] }).to_string();
    let request = client.request("POST", "/v1/tokens").header("Expect", "100-continue");
    let mut busy = client.connect();
    busy.send(&request.header("Content-Length", &body.len().to_string()).bytes());
    assert_eq!(busy.receive_head().status, 100, "it is being read");
    server.signal(rustix::process::Signal::TERM);
    idle.expect_closed();
    busy.send(body.as_bytes());
    let answer = busy.receive();
    answer.expect(201);
    assert!(answer.closes());
    busy.expect_closed();
    assert_eq!(server.wait().code(), Some(0));
    wait_until("the socket is gone", || !server.folder().join("s.sock").exists());
}

#[test]
fn the_document_is_the_one_in_the_golden_file_and_of_the_command() {
    by_both_doors(|client| {
        let answer = client.stranger().get("/openapi.json");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        expect_file!["../../golden/openapi.json"].assert_eq(answer.text());
        let ran = run(&["openapi"]);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert_eq!(ran.out, answer.text());
    });
}

/// Every operation of the document is there, and refuses a stranger exactly if the document says that it
/// needs a token.
#[test]
fn the_document_tells_the_truth_about_who_may_come_in() {
    by_both_doors(|client| {
        let document = client.stranger().get("/openapi.json").expect(200);
        let mut ids = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                assert!(ids.insert(text(&operation["operationId"]).to_owned()), "{operation}");
                let target = path.replace("{id}", "0000000000000").replace("{name}", "nobody");
                let request = Request::new(&method.to_ascii_uppercase(), &target);
                let answer = client.send(&request);
                let open = operation.get("security").is_none();
                assert_eq!(answer.status, if open { 200 } else { 401 }, "{method} {path}");
                let said = operation["responses"].get(answer.status.to_string());
                assert!(said.is_some(), "{method} {path} does not tell of {}", answer.status);
            }
        }
    });
}
