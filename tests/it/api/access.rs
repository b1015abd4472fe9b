//! Who may do what: tokens, scopes, tenants, throttling.

use holdfast::app::throttle::ATTEMPTS_MAX;
use holdfast::base::token::Token;
use serde_json::json;

use super::{by_both_doors, by_both_doors_of, new_secret, new_tenant, new_token, text};
use crate::support::{Request, Server, fresh, wait_until};

#[test]
fn without_a_token_there_is_a_401_that_says_how_to_show_one() {
    by_both_doors(|client| {
        let paths = [
            "/v1/status",
            "/v1/tokens",
            "/v1/tenants",
            "/v1/tenants/x",
            "/v1/slow",
            "/v1/audit",
            "/metrics",
            "/prometheus",
        ];
        for path in paths {
            let answer = client.stranger().get(path);
            answer.expect_problem(401, "unauthenticated");
            let how = answer.header("www-authenticate").unwrap();
            assert!(how.starts_with("Bearer"), "{how}");
        }
        // Parameters are nobody's business who has no token.
        client.stranger().get("/v1/status?x=1").expect_problem(401, "unauthenticated");
        client.stranger().post("/v1/tokens", &json!(5)).expect_problem(401, "unauthenticated");
    });
}

#[test]
fn what_is_open_needs_no_token_and_looks_at_none() {
    by_both_doors(|client| {
        for path in ["/livez", "/readyz", "/openapi.json"] {
            client.stranger().get(path).expect(200);
            client.with_token("nonsense").get(path).expect(200);
        }
        assert_eq!(client.stranger().get("/livez").expect(200), json!({ "status": "alive" }));
        assert_eq!(client.stranger().get("/readyz").expect(200), json!({ "status": "ready" }));
    });
}

#[test]
fn a_stranger_learns_that_a_path_does_not_exist() {
    by_both_doors(|client| {
        client.stranger().get("/v1/nothing").expect_problem(404, "unknown_path");
        client.stranger().delete("/v1/status").expect_problem(405, "method_not_allowed");
    });
}

#[test]
fn a_bearer_is_one_header_with_one_token() {
    by_both_doors(|client| {
        let token = client.server.token();
        let status = |request: Request| client.send(&request).status;
        let get = || Request::get("/v1/status");
        let with = |value: &str| get().header("Authorization", value);
        assert_eq!(status(with(&format!("Bearer {token}"))), 200);
        assert_eq!(status(with(&format!("bearer {token}"))), 200);
        assert_eq!(status(with(&format!("BEARER   {token}  "))), 200);
        for wrong in [
            token.to_owned(),
            format!("Basic {token}"),
            "Bearer".to_owned(),
            "Bearer ".to_owned(),
            format!("Bearer {token} {token}"),
            format!("Bearer{token}"),
            "Bearer hf_app".to_owned(),
            format!("Bearer {}", token.to_uppercase()),
            format!("Bearer {}", "x".repeat(5000)),
        ] {
            let answer = client.send(&with(&wrong));
            answer.expect_problem(401, "unauthenticated");
            assert!(answer.header("www-authenticate").is_some());
        }
        client.send(&get().bearer(token).bearer(token)).expect_problem(400, "malformed");
        // Not even a query gives a token.
        let answer = client.stranger().get(&format!("/v1/status?token={token}"));
        answer.expect_problem(401, "unauthenticated");
    });
}

#[test]
fn a_wrong_scope_is_403_and_names_the_right_one() {
    by_both_doors(|client| {
        let weak =
            client.with_token(&new_secret(client, "default", &["cache:read", "queue:admin"]));
        for (path, scope) in [
            ("/v1/status", "series:read"),
            ("/metrics", "series:read"),
            ("/prometheus", "series:read"),
            ("/v1/slow", "series:read"),
            ("/v1/tokens", "admin"),
            ("/v1/tenants", "admin"),
            ("/v1/tenants/default", "admin"),
            ("/v1/audit", "admin"),
        ] {
            let problem = weak.get(path).expect_problem(403, "forbidden");
            assert_eq!(problem["scope"], scope, "{path}");
            let detail = text(&problem["detail"]);
            assert!(
                detail.contains(scope) && detail.contains("cache:read,queue:admin"),
                "{detail}"
            );
        }
        let problem = weak.post("/v1/slow", &json!({ "entries": [] }));
        assert_eq!(problem.expect_problem(403, "forbidden")["scope"], "series:write");
        let name = fresh("made");
        let spec = json!({ "name": name, "scopes": ["cache:read"] });
        for answer in [
            weak.post("/v1/tokens", &spec),
            weak.delete("/v1/tokens/0000000000000"),
            weak.put(&format!("/v1/tenants/{name}"), &json!({})),
            weak.delete(&format!("/v1/tenants/{name}?confirm={name}")),
            weak.post("/v1/reload", &json!({})),
        ] {
            assert_eq!(answer.expect_problem(403, "forbidden")["scope"], "admin");
        }
        client.get(&format!("/v1/tenants/{name}")).expect_problem(404, "unknown_tenant");
    });
}

#[test]
fn the_right_scope_is_enough() {
    by_both_doors(|client| {
        let reader = client.with_token(&new_secret(client, "default", &["series:read"]));
        for path in ["/v1/status", "/metrics", "/prometheus", "/v1/slow"] {
            assert_eq!(reader.get(path).status, 200, "{path}");
        }
        let writer = client.with_token(&new_secret(client, "default", &["series:write"]));
        writer.post("/v1/slow", &json!({ "entries": [] })).expect(200);
        writer.get("/v1/slow").expect_problem(403, "forbidden");
    });
}

#[test]
fn the_machine_belongs_to_tenant_default() {
    by_both_doors(|client| {
        let tenant = new_tenant(client);
        let scopes = ["series:read", "series:write", "queue:admin"];
        let other = client.with_token(&new_secret(client, &tenant, &scopes));
        let machine = ["/v1/server", "/v1/server/health"];
        for path in ["/v1/status", "/metrics", "/prometheus", "/v1/slow"].into_iter().chain(machine)
        {
            let problem = other.get(path).expect_problem(403, "forbidden");
            assert!(text(&problem["detail"]).contains("default"), "{path}: {problem}");
        }
        let problem = other.post("/v1/slow", &json!({ "entries": [] }));
        problem.expect_problem(403, "forbidden");
        // Nor does an administrator who acts for somebody else own the machine.
        for path in ["/v1/status", "/metrics", "/v1/tenants", "/v1/audit"] {
            let request = client.request("GET", path).header("Holdfast-Tenant", &tenant);
            client.send(&request).expect_problem(403, "forbidden");
        }
    });
}

#[test]
fn only_administrators_act_for_another_tenant() {
    by_both_doors(|client| {
        let tenant = new_tenant(client);
        let id = text(&new_token(client, &tenant, &["cache:read"])["id"]).to_owned();
        let ask = |name: &str| {
            let request = client.request("GET", "/v1/tokens").header("Holdfast-Tenant", name);
            client.send(&request)
        };
        let items = ask(&tenant).expect(200)["items"].clone();
        assert_eq!((&items[0]["id"], &items[0]["tenant"]), (&json!(id), &json!(tenant)));
        assert_eq!(items.as_array().unwrap().len(), 1);
        ask("default").expect(200);
        let problem = ask(&fresh("nobody")).expect_problem(404, "unknown_tenant");
        assert!(text(&problem["detail"]).contains("nobody"), "{problem}");
        for malformed in ["", ".", "..", "a b", "a/b", "a,b", &"x".repeat(129), "\u{e4}"] {
            ask(malformed).expect_problem(400, "invalid_tenant");
        }
        let twice = client.request("GET", "/v1/tokens").header("Holdfast-Tenant", &tenant);
        let twice = twice.header("Holdfast-Tenant", &tenant);
        client.send(&twice).expect_problem(400, "malformed");

        // Somebody else may not even name their own, and learns nothing about others.
        let theirs =
            client.with_token(&new_secret(client, &tenant, &["cache:read", "series:read"]));
        for name in [tenant.as_str(), "default", "nobody-at-all"] {
            let request = theirs.request("GET", "/v1/status").header("Holdfast-Tenant", name);
            let problem = client.send(&request).expect_problem(403, "forbidden");
            assert!(text(&problem["detail"]).contains("Holdfast-Tenant"), "{problem}");
        }
    });
}

#[test]
fn what_belongs_to_another_tenant_is_not_there() {
    by_both_doors(|client| {
        let tenant = new_tenant(client);
        let token = new_token(client, &tenant, &["cache:read"]);
        let path = format!("/v1/tokens/{}", text(&token["id"]));
        client.delete(&path).expect_problem(404, "unknown_token");
        let elsewhere = new_tenant(client);
        let request = |tenant: &str| {
            client.send(&client.request("DELETE", &path).header("Holdfast-Tenant", tenant))
        };
        request(&elsewhere).expect_problem(404, "unknown_token");
        assert_eq!(request(&tenant).status, 204);
        request(&tenant).expect_problem(404, "unknown_token");
    });
}

#[test]
fn a_revoked_token_is_invalid_at_once() {
    by_both_doors(|client| {
        let token = new_token(client, "default", &["series:read"]);
        let its = client.with_token(text(&token["secret"]));
        let mut open = its.connect();
        let look = its.request("GET", "/v1/status");
        open.ask(&look).expect(200);
        let answer = client.delete(&format!("/v1/tokens/{}", text(&token["id"])));
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        open.ask(&look).expect_problem(401, "unauthenticated");
        its.get("/v1/status").expect_problem(401, "unauthenticated");
    });
}

#[test]
fn a_token_expires_when_it_was_said() {
    by_both_doors(|client| {
        let make = |after: serde_json::Value| {
            let body = json!({ "name": "short", "scopes": ["series:read"], "expires_in": after });
            client.post("/v1/tokens", &body).expect(201)
        };
        let later = make(json!("1h"));
        assert!(text(&later["created_at"]) < text(&later["expires_at"]));
        client.with_token(text(&later["secret"])).get("/v1/status").expect(200);
        let soon = make(json!(0.05));
        let its = client.with_token(text(&soon["secret"]));
        wait_until("the token expires", || its.get("/v1/status").status == 401);
        let problem = its.get("/v1/status").expect_problem(401, "unauthenticated");
        assert!(text(&problem["detail"]).contains("expired"), "{problem}");
        // It is still listed, so that somebody sees why it does not work.
        let expires_at = &client.get("/v1/tokens?limit=1000").expect(200)["items"];
        let found = expires_at.as_array().unwrap().iter().find(|item| item["id"] == soon["id"]);
        assert_eq!(found.unwrap()["expires_at"], soon["expires_at"]);
    });
}

#[test]
fn an_altered_token_is_no_token() {
    by_both_doors(|client| {
        let secret = new_secret(client, "default", &["series:read"]);
        client.with_token(&secret).get("/v1/status").expect(200);
        // Mistyped: the checksum tells.
        let last = if secret.ends_with('0') { "8" } else { "0" };
        let mistyped = format!("{}{last}", &secret[..secret.len() - 1]);
        let problem = client.with_token(&mistyped).get("/v1/status");
        problem.expect_problem(401, "unauthenticated");
        // Forged: everything fits together but the secret.
        for bit in [0, 100, 255] {
            let mut forged = Token::parse(&secret).unwrap();
            forged.secret[bit / 8] ^= 1 << (bit % 8);
            let forged = client.with_token(forged.to_text().expose());
            forged.get("/v1/status").expect_problem(401, "unauthenticated");
        }
        // The secret of one token is none of another.
        let other = new_secret(client, "default", &["series:read"]);
        let mut swapped = Token::parse(&secret).unwrap();
        swapped.secret = Token::parse(&other).unwrap().secret;
        let swapped = client.with_token(swapped.to_text().expose());
        swapped.get("/v1/status").expect_problem(401, "unauthenticated");
    });
}

#[test]
fn wrong_tokens_are_throttled_and_right_ones_never() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let wrong = client.with_token("hf_app_wrong").request("GET", "/v1/status");
        let mut connection = client.connect();
        let mut refused = 0;
        wait_until("somebody who guesses is throttled", || {
            let answer = connection.ask(&wrong);
            if answer.status == 429 {
                let problem = answer.expect_problem(429, "rate_limited");
                assert_eq!(problem["retryable"], true);
                let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
                assert!((1..=60).contains(&seconds), "{seconds}");
                return true;
            }
            answer.expect_problem(401, "unauthenticated");
            refused += 1;
            false
        });
        assert!(ATTEMPTS_MAX <= refused, "after {refused}");
        client.get("/v1/status").expect(200);
        client.stranger().get("/v1/status").expect_problem(401, "unauthenticated");
        client.stranger().get("/livez").expect(200);
    });
    let metrics = server.client(crate::support::Door::Tcp).get("/metrics");
    let throttled = metrics.text().lines().find_map(|line| {
        line.strip_prefix("holdfast_wrong_tokens_total{answer=\"rate_limited\"} ")
    });
    assert!(2 <= throttled.unwrap().parse::<u64>().unwrap());
}
