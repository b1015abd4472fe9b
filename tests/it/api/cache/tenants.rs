//! Who may do what in the cache, and that tenants do not see, touch or crowd out each other.

use serde_json::json;

use super::{Space, assert_miss, assert_value};
use crate::api::{by_both_doors, by_both_doors_of, new_secret, new_tenant, text};
use crate::support::{Answer, Client, Server, wait_for, wait_until};

/// The same namespace as a tenant with this name sees it.
fn as_tenant<'s>(space: &Space<'s>, tenant: &str) -> Space<'s> {
    let scopes = ["cache:read", "cache:write"];
    space.with_token(&new_secret(&space.client, tenant, &scopes))
}

/// A tenant that may hold so many bytes.
fn tenant_with(client: &Client<'_>, cache_bytes: i64) -> String {
    let tenant = new_tenant(client);
    set_quota(client, &tenant, cache_bytes);
    tenant
}

fn set_quota(client: &Client<'_>, tenant: &str, cache_bytes: i64) {
    let body = json!({ "quotas": { "cache_bytes": cache_bytes } });
    client.put(&format!("/v1/tenants/{tenant}"), &body).expect(200);
}

/// One of the calls, made by somebody.
type Call<'c> = &'c dyn Fn(&Space<'_>) -> Answer;

#[test]
fn each_call_needs_its_scope() {
    by_both_doors(|client| {
        let space = Space::new(client);
        space.put("key", "", "5");
        let scoped = |scopes: &[&str]| space.with_token(&new_secret(client, "default", scopes));
        let (only_reads, only_writes) = (scoped(&["cache:read"]), scoped(&["cache:write"]));
        let nobody = scoped(&["queue:admin", "series:write", "monitor:write"]);
        let entries = json!({ "entries": [{ "key": "key", "value": "6" }] });
        let reads: [Call<'_>; 4] = [
            &|space| space.get("key"),
            &|space| space.call("get", &json!({ "keys": ["key"] })),
            &|space| space.client.get("/v1/cache"),
            &|space| space.client.get(&space.path("")),
        ];
        let writes: [Call<'_>; 6] = [
            &|space| space.put("key", "", "6"),
            &|space| space.call("put", &entries),
            &|space| space.call("increment", &json!({ "key": "key" })),
            &|space| space.call("touch", &json!({ "key": "key", "ttl": 60 })),
            &|space| space.delete("key"),
            &|space| space.call("forget", &json!({ "all": true })),
        ];
        let before = space.state(&["key"]);
        let refused = |who: &Space<'_>, calls: &[Call<'_>], scope: &str| {
            for call in calls {
                assert_eq!(call(who).expect_problem(403, "forbidden")["scope"], scope);
            }
        };
        refused(&nobody, &reads, "cache:read");
        refused(&nobody, &writes, "cache:write");
        refused(&only_reads, &writes, "cache:write");
        refused(&only_writes, &reads, "cache:read");
        let with_lease: [Call<'_>; 2] =
            [&|space| space.ask("key", "lease=1s"), &|space| space.ask("none", "lease=1s&wait=1s")];
        refused(&only_reads, &with_lease, "cache:write");
        refused(&only_writes, &with_lease, "cache:read");
        for call in reads.iter().chain(&writes).chain(&with_lease) {
            call(&space.with_token("hf_app_x")).expect_problem(401, "unauthenticated");
            let stranger = Space { client: client.stranger(), name: space.name.clone() };
            call(&stranger).expect_problem(401, "unauthenticated");
        }
        assert_eq!(space.state(&["key"]), before);
        for (who, calls) in [(&only_reads, &reads[..]), (&only_writes, &writes)] {
            for call in calls {
                assert!(call(who).status < 300);
            }
        }
        assert_miss(&scoped(&["cache:read", "cache:write"]).ask("key", "lease=1s"));
    });
}

#[test]
fn tenants_have_the_same_names_for_different_things() {
    by_both_doors(|client| {
        let names = [new_tenant(client), new_tenant(client)];
        let space = Space::new(client);
        let [one, two] = names.each_ref().map(|name| as_tenant(&space, name));
        for (who, value) in [(&space, "ours"), (&one, "one"), (&two, "two")] {
            assert_eq!(who.put("key", "ttl=1h&tags=t", value).status, 201);
        }
        for (who, value) in [(&space, "ours"), (&one, "one"), (&two, "two")] {
            assert_value(&who.get("key"), value);
            assert_eq!(who.stats()["entries"], 1);
            assert_eq!(who.stats()["hits"], 1);
        }
        for body in [
            json!({ "tags": ["t"] }),
            json!({ "keys": ["key"] }),
            json!({ "prefix": "k" }),
            json!({ "pattern": "*" }),
            json!({ "all": true }),
        ] {
            assert_eq!(one.forget(&body), 1, "{body}");
            assert_miss(&one.get("key"));
            assert_value(&two.get("key"), "two");
            assert_value(&space.get("key"), "ours");
            one.put("key", "tags=t", "one");
        }
        // A lease of one is none of the other, and ends by nothing that the other does.
        let lease = one.lease("cold");
        assert_ne!(two.lease("cold"), lease);
        two.put("cold", &format!("lease={lease}"), "v").expect_problem(409, "lease_lost");
        two.forget(&json!({ "all": true }));
        two.put("cold", "", "two");
        assert_eq!(one.put("cold", &format!("lease={lease}"), "one").status, 201);
        assert_value(&one.get("cold"), "one");
        for who in [&one, &two] {
            let list = who.client.get("/v1/cache").expect(200);
            assert_eq!(list["items"].as_array().unwrap().len(), 1);
        }
    });
}

#[test]
fn an_administrator_may_name_a_tenant_and_nobody_else_may() {
    by_both_doors(|client| {
        let tenant = new_tenant(client);
        let space = Space::new(client);
        let theirs = as_tenant(&space, &tenant);
        theirs.put("key", "", "theirs");
        space.put("key", "", "ours");
        let request =
            |method: &str| space.request(method, "key", "").header("Holdfast-Tenant", &tenant);
        assert_value(&client.send(&request("GET")), "theirs");
        assert_eq!(client.send(&request("PUT").body(b"changed")).status, 200);
        assert_value(&theirs.get("key"), "changed");
        assert_eq!(client.send(&request("DELETE")).status, 204);
        assert_miss(&theirs.get("key"));
        assert_value(&space.get("key"), "ours");
        for name in ["default", tenant.as_str()] {
            for method in ["GET", "DELETE"] {
                let request = theirs.request(method, "key", "").header("Holdfast-Tenant", name);
                client.send(&request).expect_problem(403, "forbidden");
            }
        }
        let unknown = space.request("GET", "key", "").header("Holdfast-Tenant", "nobody-at-all");
        client.send(&unknown).expect_problem(404, "unknown_tenant");
        assert_value(&space.get("key"), "ours");
    });
}

#[test]
fn a_tenant_with_a_small_quota_evicts_its_own_entries_and_nobody_elses() {
    by_both_doors(|client| {
        const QUOTA: u64 = 300_000;
        let small = tenant_with(client, 300_000);
        let neighbour = new_tenant(client);
        let space = Space::new(client);
        let (own, other) = (as_tenant(&space, &small), as_tenant(&space, &neighbour));
        for n in 0..40 {
            other.put(&format!("key {n}"), "", vec![b'o'; 10_000]);
        }
        let untouched = other.stats();
        let second = Space { name: crate::support::fresh("second"), ..own.clone() };
        let used = |space: &Space<'_>| {
            let page = space.client.get(&space.path(""));
            if page.status == 404 { 0 } else { page.json()["bytes"].as_u64().unwrap() }
        };
        for n in 0..100 {
            for space in [&own, &second] {
                assert_eq!(space.put(&format!("key {n}"), "", vec![b's'; 10_000]).status, 201);
                let sum = used(&own) + used(&second);
                assert!(sum <= QUOTA, "{sum}");
            }
        }
        let stats = own.stats();
        assert_eq!(stats["bytes_max"], QUOTA, "{stats}");
        let evicted = stats["evicted"].as_u64().unwrap()
            + second.client.get(&second.path("")).json()["evicted"].as_u64().unwrap_or(0);
        let entries = |space: &Space<'_>| {
            (0..100).filter(|n| space.head(&format!("key {n}")).status == 200).count()
        };
        let left = entries(&own) + entries(&second);
        assert!((10..30).contains(&left), "{left}");
        assert!(100 < evicted, "{evicted}");
        assert_eq!(other.stats(), untouched);
    });
}

#[test]
fn an_entry_above_the_quota_is_refused_and_costs_nothing() {
    by_both_doors(|client| {
        let tenant = tenant_with(client, 100_000);
        let space = as_tenant(&Space::new(client), &tenant);
        space.put("key", "ttl=1h", "old");
        space.put("other", "", "other");
        let keys = ["key", "other", "new"];
        let before = space.state(&keys);
        let large = "v".repeat(100_000);
        for key in ["key", "new"] {
            for query in ["", "ttl=1h", "if=present", "if=absent"] {
                let answer = space.put(key, query, &large);
                // A condition that does not hold may be told first.
                if answer.status != 409 {
                    let problem = answer.expect_problem(413, "too_large");
                    assert_eq!(problem["limit"], 100_000, "{problem}");
                }
            }
            let small = json!({ "key": "new", "value": "v" });
            let entries = json!([small, { "key": key, "value": large }, small]);
            let answer = space.call("put", &json!({ "entries": entries }));
            assert_eq!(answer.expect_problem(413, "too_large")["limit"], 100_000);
            assert_eq!(space.state(&keys), before, "all or nothing");
        }
        assert_eq!(space.state(&keys), before);
        assert_value(&space.get("key"), "old");
        // A refused put does not end the lease.
        let lease = space.lease("cold");
        space.put("cold", &format!("lease={lease}"), &large).expect_problem(413, "too_large");
        assert_eq!(space.put("cold", &format!("lease={lease}"), "v").status, 201);
    });
}

#[test]
fn a_quota_of_nothing_and_one_without_end() {
    by_both_doors(|client| {
        let tenant = tenant_with(client, 0);
        let space = as_tenant(&Space::new(client), &tenant);
        for _ in 0..2 {
            space.put("key", "", "").expect_problem(413, "too_large");
            space.call("increment", &json!({ "key": "n" })).expect_problem(413, "too_large");
            let entries = json!({ "entries": [{ "key": "key", "value": "v" }] });
            space.call("put", &entries).expect_problem(413, "too_large");
            assert_miss(&space.get("key"));
        }
        set_quota(client, &tenant, -1);
        assert_eq!(space.put("key", "", vec![b'v'; 1_000_000]).status, 201);
        assert_eq!(space.call("increment", &json!({ "key": "n" })).expect(200)["value"], 1);
    });
}

#[test]
fn a_quota_that_shrinks_is_kept_soon() {
    by_both_doors(|client| {
        let tenant = tenant_with(client, 1_000_000);
        let space = as_tenant(&Space::new(client), &tenant);
        for n in 0..50 {
            space.put(&format!("key {n}"), "", vec![b'v'; 10_000]);
        }
        assert_eq!(space.stats()["entries"], 50);
        set_quota(client, &tenant, 200_000);
        assert_eq!(space.stats()["bytes_max"], 200_000);
        wait_until("it holds less", || space.stats()["bytes"].as_u64().unwrap() <= 200_000);
        assert_eq!(space.put("new", "", vec![b'v'; 10_000]).status, 201);
        assert!(space.stats()["bytes"].as_u64().unwrap() <= 200_000);
    });
}

#[test]
fn a_tenant_that_is_deleted_leaves_nothing_to_one_of_its_name() {
    by_both_doors(|client| {
        let tenant = new_tenant(client);
        let space = as_tenant(&Space::new(client), &tenant);
        space.put("key", "", "secret");
        let answer = client.delete(&format!("/v1/tenants/{tenant}?confirm={tenant}"));
        answer.expect(202);
        space.get("key").expect_problem(401, "unauthenticated");
        let path = format!("/v1/tenants/{tenant}");
        wait_until("the name is free", || client.put(&path, &json!({})).status == 201);
        let again = as_tenant(&Space { client: client.clone(), name: space.name.clone() }, &tenant);
        assert_miss(&again.get("key"));
        assert_eq!(again.client.get("/v1/cache").expect(200)["items"], json!([]));
    });
}

#[test]
fn a_tenant_has_at_most_1000_namespaces_and_empty_ones_do_not_count() {
    let server = Server::start();
    by_both_doors_of(&server, |client| {
        let tenant = new_tenant(client);
        let own = as_tenant(&Space::new(client), &tenant);
        let mut connection = client.connect();
        let mut ask = |method: &str, name: &str| {
            let target = format!("/v1/cache/{name}/keys/key");
            connection.ask(&own.client.request(method, &target).body(b"v"))
        };
        // Emptied, they make room for others.
        for n in 0..1500 {
            let name = format!("empty-{n}");
            let answer = wait_for("there is room for another", || {
                let answer = ask("PUT", &name);
                (answer.status != 403).then_some(answer)
            });
            assert_eq!(answer.status, 201, "{answer:?}");
            assert_eq!(ask("DELETE", &name).status, 204);
        }
        for n in 0..1000 {
            let answer = wait_for("there is room for another", || {
                let answer = ask("PUT", &format!("full-{n}"));
                (answer.status != 403).then_some(answer)
            });
            assert_eq!(answer.status, 201, "{answer:?}");
        }
        let answer = ask("PUT", "one-more");
        let problem = answer.expect_problem(403, "quota_exceeded");
        assert_eq!((&problem["limit"], &problem["used"]), (&json!(1000), &json!(1000)));
        assert!(text(&problem["detail"]).contains("one-more"), "{problem}");
        assert_miss(&ask("GET", "one-more"));
        assert_eq!(ask("PUT", "full-0").status, 200);
        assert_eq!(ask("DELETE", "full-0").status, 204);
        wait_until("there is room for one", || ask("PUT", "one-more").status == 201);
        // Another tenant has its own.
        let other = as_tenant(&Space::new(client), &new_tenant(client));
        assert_eq!(other.put("key", "", "v").status, 201);
    });
}
