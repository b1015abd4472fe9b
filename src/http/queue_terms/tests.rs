//! Each call of the queues: what it means, and what is refused under which name.

use std::time::Duration;

use hyper::header::HeaderValue;
use serde_json::json;

use super::*;
use crate::base::id::JobId;
use crate::base::limits::*;
use crate::base::rng::Rng;
use crate::base::time::Timestamp;
use crate::http::query::Query;
use crate::http::splice::Object;
use crate::queue::job::{
    Band, End, Failure, Followup, LeaseToken, Payload, Retry, Spec, State, Unique, Until, When,
};
use crate::queue::rate::Rate;
use crate::testing::seeds;

const SECOND: Duration = Duration::from_secs(1);

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_763_640_000_000).unwrap()
}

fn one(text: &str) -> Spec {
    let mut specs = jobs(text.as_bytes(), now()).unwrap();
    assert_eq!(specs.len(), 1, "{text}");
    specs.remove(0)
}

/// Code, field and index of a refusal.
fn told(problem: &Problem) -> (&'static str, String, Option<u64>) {
    let field = |name| problem.fields.iter().find(|(found, _)| *found == name).map(|(_, v)| v);
    let name = field("field").and_then(|v| v.as_str()).unwrap_or("").to_owned();
    (problem.kind.code, name, field("index").and_then(serde_json::Value::as_u64))
}

fn refused(text: &str) -> (&'static str, String, Option<u64>) {
    told(&jobs(text.as_bytes(), now()).expect_err(text))
}

/// What one more field of a job is refused with: the code, and the field it names.
fn job_with(rest: &str) -> (&'static str, String) {
    let (code, field, index) = refused(&format!(r#"{{"queue":"q","payload":1,{rest}}}"#));
    assert_eq!(index, None, "{rest}");
    // The same job as the third of a list is told with its place, and under the same name.
    let list = format!(
        r#"{{"jobs":[{{"queue":"q","payload":1}},{{"queue":"q","payload":1}},{{"queue":"q","payload":1,{rest}}}]}}"#
    );
    let (again, named, index) = refused(&list);
    assert_eq!((again, named.as_str()), (code, field.as_str()), "{rest}");
    assert!(index.is_some(), "{rest}");
    (code, field)
}

#[test]
fn a_payload_keeps_the_text_it_had() {
    for payload in [
        "1.0",
        "1e400",
        "-0.0",
        "null",
        "123456789012345678901234567890",
        r#""\u00e4\/\ud800""#,
        r#"{"a":1,"a":2, "queue":[ ] ,"x":{"jobs":null}}"#,
        "[1,\n\t2 ]",
        r#""}],{[\"""#,
    ] {
        let job = format!(" {{ \"payload\" :\r\n{payload} , \"queue\":\"q\" }}\n");
        assert_eq!(one(&job).payload, Payload::json(payload), "{payload}");
        let list = format!(r#"{{"jobs":[ {job} , {job} ]}}"#);
        let specs = jobs(list.as_bytes(), now()).unwrap();
        assert!(specs.iter().all(|spec| spec.payload == Payload::json(payload)), "{payload}");
        let raw = raw("", Some("application/json; charset=utf-8"), payload).unwrap();
        assert_eq!(raw.payload, Payload::json(payload), "{payload}");
    }
    let spaced = raw("", Some("Application/JSON"), " {} \n").unwrap();
    assert_eq!(spaced.payload, Payload::json(" {} \n"), "byte for byte");
}

#[test]
fn a_payload_that_is_no_json_is_refused() {
    for payload in [
        "",
        "01",
        "{",
        "[1,]",
        "{\"a\"}",
        "nul",
        "\"\u{1}\"",
        "1 2",
        "[}",
        "{]",
        "\"\\x\"",
        "+1",
        "'a'",
        "{1:2}",
        "\u{e4}",
    ] {
        let text = format!(r#"{{"queue":"q","payload":{payload}}}"#);
        let (code, ..) = refused(&text);
        assert!(matches!(code, "invalid_payload" | "malformed"), "{payload:?}: {code}");
        let sent = raw("", Some("application/json"), payload);
        assert!(payload.is_empty() || sent.is_err(), "{payload:?}");
    }
    assert_eq!(raw("", Some("application/json"), "{").unwrap_err().kind.code, "invalid_payload");
    assert!(jobs(b"{\"queue\":\"q\",\"payload\":\"\xff\"}", now()).is_err());
    let deep = |depth: usize| {
        let payload = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let json = format!(r#"{{"queue":"q","payload":{payload}}}"#);
        let raw = raw("", Some("application/json"), &payload).is_ok();
        (jobs(json.as_bytes(), now()).is_ok(), raw)
    };
    assert_eq!(deep(JSON_DEPTH_MAX - 1), (true, true));
    assert_eq!(deep(JSON_DEPTH_MAX), (false, true), "the job itself is one level");
    assert_eq!(deep(JSON_DEPTH_MAX + 1), (false, false));
}

#[test]
fn a_job_has_one_payload_of_a_bounded_size() {
    assert_eq!(refused(r#"{"queue":"q"}"#).0, "invalid_payload");
    let (code, field) = job_with(r#""payload_base64":"AA==""#);
    assert_eq!((code, field.as_str()), ("invalid_payload", "payload"));
    assert_eq!(job_with(r#""content_type":"text/plain""#).0, "invalid_content_type");
    let bytes = one(r#"{"queue":"q","payload_base64":"AP8K"}"#).payload;
    let content_type = Some("application/octet-stream".to_owned());
    assert_eq!(bytes, Payload { content_type, bytes: vec![0, 255, 10] });
    let typed = r#"{"queue":"q","payload_base64":"","content_type":"image/png"}"#;
    let content_type = Some("image/png".to_owned());
    assert_eq!(one(typed).payload, Payload { content_type, bytes: Vec::new() });
    for wrong in ["\"AP8\"", "\"A\"", "5", "\"AP8K \"", "{}"] {
        let (code, field, _) = refused(&format!(r#"{{"queue":"q","payload_base64":{wrong}}}"#));
        assert_eq!((code, field.as_str()), ("invalid_payload", "payload_base64"), "{wrong}");
    }
    let json = |bytes: usize| {
        let text = format!(r#"{{"queue":"q","payload":"{}"}}"#, "x".repeat(bytes - 2));
        jobs(text.as_bytes(), now()).map_err(|problem| told(&problem).0).map(drop)
    };
    assert_eq!(json(JOB_PAYLOAD_BYTES_MAX), Ok(()));
    assert_eq!(json(JOB_PAYLOAD_BYTES_MAX + 1), Err("too_large"));
    let base64 = |bytes: usize| {
        let mut out = Vec::new();
        let mut job = Object::begin(&mut out, &json!({ "queue": "q" }));
        let content_type = Some("text/plain".to_owned());
        job.payload(&Payload { content_type, bytes: vec![7; bytes] });
        job.end();
        jobs(&out, now()).map_err(|problem| told(&problem).0).map(drop)
    };
    assert_eq!(base64(JOB_PAYLOAD_BYTES_MAX), Ok(()));
    assert_eq!(base64(JOB_PAYLOAD_BYTES_MAX + 1), Err("too_large"));
    assert_eq!(base64(JOB_PAYLOAD_BYTES_MAX + 9), Err("too_large"));
}

#[test]
fn a_job_says_all_that_can_be_said() {
    let spec = one(r#"{"queue":"mails","type":"mail","payload":{},"delay":"5m","priority":"high",
        "max_tries":7,"backoff":{"kind":"exponential","base":"2s","cap":60},"timeout":90,
        "max_crashes":2,"unique":{"key":"k\u0031","until":"ttl","ttl":"1h"},"tags":["a","b","a"],
        "result_ttl":"2h","on_failed":{"queue":"alarms","type":"note","payload":[ 1.0]}}"#);
    let mut wanted = Spec::new(QueueName::parse("mails").unwrap(), Payload::json("{}"));
    wanted.job_type = "mail".to_owned();
    wanted.when = When::After(300 * SECOND);
    wanted.band = Band::High;
    wanted.rules.max_tries = Some(7);
    wanted.rules.max_crashes = Some(2);
    wanted.rules.timeout = Some(90 * SECOND);
    wanted.rules.backoff = Some(Backoff::Exponential { base: 2 * SECOND, cap: 60 * SECOND });
    let ttl = Some(3600 * SECOND);
    wanted.unique = Some(Unique { key: "k1".to_owned(), until: Until::Ttl, ttl });
    wanted.tags = vec!["a".to_owned(), "b".to_owned()];
    wanted.result_ttl = Some(7200 * SECOND);
    wanted.on_failed = Some(Box::new(Followup {
        queue: QueueName::parse("alarms").unwrap(),
        job_type: "note".to_owned(),
        payload: Payload::json("[ 1.0]"),
    }));
    assert_eq!(spec, wanted);
    let plain =
        one(r#"{"queue":"q","payload":1,"type":null,"delay":null,"unique":null,"tags":null,
        "on_failed":{"queue":"f"}}"#);
    let mut wanted = Spec::new(QueueName::parse("q").unwrap(), Payload::json("1"));
    wanted.on_failed = Some(Box::new(Followup {
        queue: QueueName::parse("f").unwrap(),
        job_type: "default".to_owned(),
        payload: Payload::json("null"),
    }));
    assert_eq!(plain, wanted, "null is nothing");
    let when = |rest: &str| one(&format!(r#"{{"queue":"q","payload":1,{rest}}}"#)).when;
    assert_eq!(when(r#""run_at":"+1h""#), When::At(now().plus(3600 * SECOND)));
    assert_eq!(when(r#""run_at":1763640001"#), When::At(now().plus(SECOND)));
    assert_eq!(when(r#""run_at":"-24h""#), When::At(now().minus(86_400 * SECOND)));
    assert_eq!(when(r#""delay":0"#), When::Now);
    assert_eq!(when(r#""delay":0.5"#), When::After(SECOND / 2));
}

#[test]
fn a_wrong_field_is_told_by_its_code_and_name() {
    for (rest, code) in [
        (r#""queue":"r""#, "malformed"),
        (r#""qeue":"r""#, "unknown_field"),
        (r#""jobs":[]"#, "malformed"),
        (r#""type":"""#, "invalid_type"),
        (r#""type":5"#, "invalid_type"),
        (r#""type":"a\u0000""#, "invalid_type"),
        (r#""delay":"-1s""#, "invalid_delay"),
        (r#""delay":{}"#, "invalid_delay"),
        (r#""delay":"3651d""#, "invalid_delay"),
        (r#""run_at":"soon""#, "invalid_run_at"),
        (r#""run_at":1763640000500"#, "invalid_run_at"),
        (r#""run_at":"+3651d""#, "invalid_run_at"),
        (r#""run_at":"now","delay":1"#, "invalid_run_at"),
        (r#""priority":"High""#, "invalid_priority"),
        (r#""priority":1"#, "invalid_priority"),
        (r#""max_tries":0"#, "invalid_max_tries"),
        (r#""max_tries":10001"#, "invalid_max_tries"),
        (r#""max_tries":1.5"#, "invalid_max_tries"),
        (r#""max_tries":"3""#, "invalid_max_tries"),
        (r#""max_crashes":0"#, "invalid_max_crashes"),
        (r#""timeout":0.999"#, "invalid_timeout"),
        (r#""timeout":"8d""#, "invalid_timeout"),
        (r#""result_ttl":"31d""#, "invalid_result_ttl"),
        (r#""tags":"a""#, "invalid_tags"),
        (r#""tags":[1]"#, "invalid_tags"),
        (r#""tags":[""]"#, "invalid_tags"),
        (r#""tags":["a",]"#, "malformed"),
        (r#""unique":"k""#, "invalid_unique"),
        (r#""unique":{}"#, "invalid_unique"),
        (r#""unique":{"key":""}"#, "invalid_unique"),
        (r#""unique":{"key":"k","until":"never"}"#, "invalid_unique"),
        (r#""unique":{"key":"k","until":"ttl"}"#, "invalid_unique"),
        (r#""unique":{"key":"k","ttl":0}"#, "invalid_unique"),
        (r#""unique":{"key":"k","utnil":"done"}"#, "unknown_field"),
        (r#""on_failed":"q""#, "invalid_on_failed"),
        (r#""on_failed":{}"#, "invalid_on_failed"),
        (r#""on_failed":{"queue":"a b"}"#, "invalid_on_failed"),
        (r#""on_failed":{"queue":"q","payload":01}"#, "invalid_on_failed"),
        (r#""on_failed":{"queue":"q","type":""}"#, "invalid_on_failed"),
    ] {
        let told = if rest.starts_with(r#""jobs""#) {
            refused(&format!(r#"{{"queue":"q","payload":1,{rest}}}"#)).0
        } else {
            job_with(rest).0
        };
        assert_eq!(told, code, "{rest}");
    }
    assert_eq!(job_with(r#""unique":{"key":"k","x":1}"#).1, "unique.x");
    assert_eq!(refused(r#"{"payload":1}"#).0, "invalid_queue");
    assert_eq!(refused(r#"{"queue":"a/b","payload":1}"#), ("invalid_queue", "queue".into(), None));
    for text in ["", " ", "[1]", "5", "{", "{}}", r#"{"queue":"q","payload":1}x"#, "{,}", "{\"a\"}"]
    {
        assert!(jobs(text.as_bytes(), now()).is_err(), "{text:?}");
    }
    let index = |rest: &str| {
        let list = r#"{"jobs":[{"queue":"q","payload":1},"#.to_owned() + rest + "]}";
        let (code, _, index) = refused(&list);
        (code, index)
    };
    assert_eq!(index(r#"{"queue":"q","payload":1,"delay":[]}"#), ("invalid_delay", Some(1)));
    assert_eq!(index(r#"{"queue":"q"}"#), ("invalid_payload", Some(1)));
    assert_eq!(index(r#"{"jobs":[]}"#), ("unknown_field", Some(1)));
    assert_eq!(index("[1]"), ("malformed", Some(1)));
    assert_eq!(index("[]"), ("invalid_queue", Some(1)));
}

#[test]
fn the_bounds_of_a_job_are_those_of_the_product() {
    let fits = |rest: String| {
        jobs(format!(r#"{{"queue":"q","payload":1,{rest}}}"#).as_bytes(), now()).is_ok()
    };
    let text = |field: &str, bytes: usize| fits(format!(r#""{field}":"{}""#, "x".repeat(bytes)));
    assert!(text("type", JOB_TYPE_BYTES_MAX) && !text("type", JOB_TYPE_BYTES_MAX + 1));
    let key = |bytes: usize| fits(format!(r#""unique":{{"key":"{}"}}"#, "x".repeat(bytes)));
    assert!(key(UNIQUE_KEY_BYTES_MAX) && !key(UNIQUE_KEY_BYTES_MAX + 1));
    let tag = |bytes: usize| fits(format!(r#""tags":["{}"]"#, "x".repeat(bytes)));
    assert!(tag(JOB_TAG_BYTES_MAX) && !tag(JOB_TAG_BYTES_MAX + 1));
    let tags = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("\"{n}\"")).collect();
        fits(format!(r#""tags":[{}]"#, all.join(",")))
    };
    assert!(tags(JOB_TAGS_MAX) && !tags(JOB_TAGS_MAX + 1));
    let followup = |bytes: usize| {
        let payload = "x".repeat(bytes - 2);
        fits(format!(r#""on_failed":{{"queue":"q","payload":"{payload}"}}"#))
    };
    assert!(followup(FOLLOWUP_PAYLOAD_BYTES_MAX) && !followup(FOLLOWUP_PAYLOAD_BYTES_MAX + 1));
    for (field, least, most) in [
        ("max_tries", "1", "10000"),
        ("max_crashes", "1", "10000"),
        ("timeout", "1", "\"7d\""),
        ("delay", "0", "\"3650d\""),
        ("result_ttl", "0", "\"30d\""),
    ] {
        assert!(fits(format!("\"{field}\":{least}")), "{field}");
        assert!(fits(format!("\"{field}\":{most}")), "{field}");
    }
    let list = |count: usize| {
        let all = vec![r#"{"queue":"q","payload":1}"#; count].join(",");
        let read = jobs(format!(r#"{{"jobs":[{all}]}}"#).as_bytes(), now());
        read.map(|specs| specs.len()).map_err(|problem| problem.kind.code)
    };
    assert_eq!((list(0), list(1000), list(1001)), (Ok(0), Ok(1000), Err("too_large")));
}

#[test]
fn a_backoff_is_one_of_three() {
    let read = |text: &str| {
        let text = format!(r#"{{"queue":"q","payload":1,"backoff":{text}}}"#);
        let specs = jobs(text.as_bytes(), now()).map_err(|problem| problem.kind.code)?;
        Ok::<_, &'static str>(specs[0].rules.backoff.clone().unwrap())
    };
    let hour = 3600 * SECOND;
    let growing = |base, cap| Ok(Backoff::Exponential { base, cap });
    assert_eq!(read(r#"{"kind":"exponential","base":"5s"}"#), growing(5 * SECOND, hour));
    assert_eq!(read(r#"{"kind":"exponential","base":"2h"}"#), growing(2 * hour, 2 * hour));
    assert_eq!(read(r#"{"kind":"exponential","base":1,"cap":1}"#), growing(SECOND, SECOND));
    assert_eq!(read(r#"{"kind":"fixed","base":0}"#), Ok(Backoff::Fixed { base: Duration::ZERO }));
    let list = Backoff::List(vec![SECOND, 60 * SECOND]);
    assert_eq!(read(r#"{"kind":"list","list":[1,"1m"]}"#), Ok(list));
    for wrong in [
        "5",
        "\"5s\"",
        "{}",
        r#"{"base":"5s"}"#,
        r#"{"kind":"linear","base":1}"#,
        r#"{"kind":"exponential"}"#,
        r#"{"kind":"exponential","base":2,"cap":1}"#,
        r#"{"kind":"exponential","base":1,"list":[1]}"#,
        r#"{"kind":"fixed"}"#,
        r#"{"kind":"fixed","base":1,"cap":1}"#,
        r#"{"kind":"list"}"#,
        r#"{"kind":"list","list":[]}"#,
        r#"{"kind":"list","list":[1],"base":1}"#,
        r#"{"kind":"list","list":["x"]}"#,
        r#"{"kind":"fixed","base":"3651d"}"#,
    ] {
        assert_eq!(read(wrong), Err("invalid_backoff"), "{wrong}");
    }
    let waits =
        |count| read(&format!(r#"{{"kind":"list","list":[{}]}}"#, vec!["1"; count].join(",")));
    assert!(waits(BACKOFF_LIST_MAX).is_ok());
    assert_eq!(waits(BACKOFF_LIST_MAX + 1), Err("invalid_backoff"));
}

fn raw(query: &str, content_type: Option<&'static str>, body: &str) -> Result<Spec, Problem> {
    let query = Query::read(Some(query), &RAW_PARAMETERS).unwrap();
    let content_type = content_type.map(|text| HeaderValue::from_bytes(text.as_bytes()).unwrap());
    let queue = QueueName::parse("q").unwrap();
    raw_job(queue, &query, content_type.as_ref(), body.as_bytes(), now())
}

#[test]
fn the_raw_form_is_bytes_and_a_query() {
    let query = "type=mail&delay=5m&priority=low&max_tries=3&timeout=90&unique=k%201&tags=a,b,a";
    let spec = raw(query, Some("text/plain"), "caf\u{e9}").unwrap();
    let mut wanted = one(
        r#"{"queue":"q","payload_base64":"Y2Fmw6k=","content_type":"text/plain","type":"mail",
        "delay":300,"priority":"low","max_tries":3,"timeout":"90s","unique":{"key":"k 1"},"tags":["a","b"]}"#,
    );
    assert_eq!(spec, wanted);
    wanted = Spec::new(QueueName::parse("q").unwrap(), wanted.payload);
    wanted.payload.content_type = Some("application/octet-stream".to_owned());
    wanted.payload.bytes = Vec::new();
    assert_eq!(raw("", None, "").unwrap(), wanted, "no bytes are a payload, too");
    for no_json in ["", " ", "{", "1 2"] {
        let refused = raw("", Some("application/json"), no_json).unwrap_err();
        assert_eq!(refused.kind.code, "invalid_payload", "{no_json:?}");
    }
    assert_eq!(raw("run_at=%2B1h", None, "").unwrap().when, When::At(now().plus(3600 * SECOND)));
    for (query, code) in [
        ("type=", "invalid_type"),
        ("delay=x", "invalid_delay"),
        ("run_at=x", "invalid_run_at"),
        ("run_at=now&delay=1", "invalid_run_at"),
        ("priority=urgent", "invalid_priority"),
        ("max_tries=0", "invalid_max_tries"),
        ("max_tries=%2B3", "invalid_max_tries"),
        ("max_tries=10001", "invalid_max_tries"),
        ("timeout=0.5", "invalid_timeout"),
        ("unique=", "invalid_unique"),
        ("tags=a,", "invalid_tags"),
    ] {
        assert_eq!(raw(query, None, "x").unwrap_err().kind.code, code, "{query}");
    }
    let long = "x".repeat(JOB_PAYLOAD_BYTES_MAX + 1);
    assert!(raw("", None, &long[1..]).is_ok());
    assert_eq!(raw("", None, &long).unwrap_err().kind.code, "too_large");
    let strange = raw("", Some("caf\u{e9}"), "x").unwrap_err();
    assert_eq!(strange.kind.code, "invalid_content_type");
}

#[test]
fn what_a_job_carried_goes_out_as_it_came_in() {
    let written = |payload: &Payload| {
        let mut out = b"[".to_vec();
        let mut job = Object::begin(&mut out, &json!({ "id": "x" }));
        job.payload(payload);
        job.json("result", b"1.0");
        job.field("tags", &["a\"b"]);
        job.end();
        String::from_utf8(out).unwrap()
    };
    let json = Payload::json("{ \"a\":1.00,\"a\":[] }");
    let text = r#"[{"id":"x","payload":{ "a":1.00,"a":[] },"result":1.0,"tags":["a\"b"]}"#;
    assert_eq!(written(&json), text);
    let bytes = Payload { content_type: Some("a/\"b".to_owned()), bytes: vec![0, 255, 10, 1] };
    let text = r#"[{"id":"x","payload_base64":"AP8KAQ==","content_type":"a/\"b","result":1.0,"tags":["a\"b"]}"#;
    assert_eq!(written(&bytes), text);
    let mut out = Vec::new();
    let mut empty = Object::begin(&mut out, &json!({}));
    empty.json("payload", b"null");
    empty.end();
    assert_eq!(out, br#"{"payload":null}"#);
}

fn code<T>(read: Result<T, Problem>) -> &'static str {
    match read {
        Ok(_) => "fine",
        Err(problem) => problem.kind.code,
    }
}

#[test]
fn a_call_for_jobs_names_queues_and_has_its_bounds() {
    let read = |text: &str| lease(text.as_bytes());
    let call = read(r#"{"queues":["b","a","b"],"max":100,"wait":50,"lease":"1s","worker":"w 1"}"#);
    let names = ["b", "a"].map(|name| QueueName::parse(name).unwrap()).to_vec();
    let wanted = LeaseCall {
        queues: names.clone(),
        max: 100,
        wait: WAIT_MAX,
        lease: Some(SECOND),
        worker: Some("w 1".to_owned()),
    };
    assert_eq!(call.unwrap(), wanted);
    let plain = read(r#"{"queues":["b","a"]}"#).unwrap();
    let wanted =
        LeaseCall { queues: names, max: 1, wait: Duration::ZERO, lease: None, worker: None };
    assert_eq!(plain, wanted);
    for (rest, wanted) in [
        (r#""max":0"#, "invalid_max"),
        (r#""max":101"#, "invalid_max"),
        (r#""wait":50.001"#, "invalid_wait"),
        (r#""lease":"25h""#, "invalid_lease"),
        (r#""lease":0.5"#, "invalid_lease"),
        (r#""worker":"""#, "invalid_worker"),
        (r#""wrker":"w""#, "unknown_field"),
    ] {
        assert_eq!(code(read(&format!(r#"{{"queues":["a"],{rest}}}"#))), wanted, "{rest}");
    }
    for queues in ["[]", "null", "\"a\"", "[\"a b\"]", "[1]"] {
        assert_eq!(code(read(&format!(r#"{{"queues":{queues}}}"#))), "invalid_queues", "{queues}");
    }
    let many = |count: usize| read(&json!({ "queues": vec!["a"; count] }).to_string());
    assert!(many(LEASE_QUEUES_MAX).is_ok());
    assert_eq!(code(many(LEASE_QUEUES_MAX + 1)), "invalid_queues");
    assert_eq!(code(lease(b"")), "malformed");
}

#[test]
fn an_attempt_ends_in_three_ways() {
    let text = |bytes: &[u8]| Some(bytes.to_vec());
    assert_eq!(done(b"").unwrap(), End::Done { result: None });
    assert_eq!(done(br#"{"result": 1.0 }"#).unwrap(), End::Done { result: text(b"1.0") });
    assert_eq!(done(br#"{"result":null}"#).unwrap(), End::Done { result: text(b"null") });
    assert_eq!(code(done(br#"{"result":01}"#)), "invalid_result");
    let result =
        |bytes: usize| done(format!(r#"{{"result":"{}"}}"#, "x".repeat(bytes - 2)).as_bytes());
    assert!(result(JOB_RESULT_BYTES_MAX).is_ok());
    assert_eq!(code(result(JOB_RESULT_BYTES_MAX + 1)), "too_large");

    let end = fail(br#"{"error":{"class":"E","message":"m","trace":"t"},"retry":"10m"}"#).unwrap();
    let failure = Failure { class: "E".into(), message: "m".into(), trace: Some("t".into()) };
    assert_eq!(end, End::Fail { failure, retry: Retry::After(600 * SECOND) });
    let retry = |retry: &str| {
        let text = format!(r#"{{"error":{{"message":""}},"retry":{retry}}}"#);
        match fail(text.as_bytes()) {
            Ok(End::Fail { retry, .. }) => Ok(retry),
            Ok(_) => panic!("a failure fails"),
            Err(problem) => Err(problem.kind.code),
        }
    };
    assert_eq!(retry("false"), Ok(Retry::Never));
    assert_eq!((retry("null"), retry("true")), (Ok(Retry::ByPolicy), Ok(Retry::ByPolicy)));
    assert_eq!(retry("0"), Ok(Retry::After(Duration::ZERO)));
    assert_eq!(retry("\"never\""), Err("invalid_retry"));
    for wrong in ["{}", r#"{"error":null}"#, r#"{"error":"m"}"#, r#"{"error":{"class":"E"}}"#] {
        assert_eq!(code(fail(wrong.as_bytes())), "invalid_error", "{wrong}");
    }

    let end = release(br#"{"delay":"5s","reason":"busy"}"#).unwrap();
    assert_eq!(end, End::Release { delay: 5 * SECOND, reason: Some("busy".into()) });
    assert_eq!(release(b" ").unwrap(), End::Release { delay: Duration::ZERO, reason: None });
    assert_eq!(code(release(br#"{"delay":"x"}"#)), "invalid_delay");
}

#[test]
fn the_words_of_an_error_are_cut_between_two_characters() {
    let long = "\u{e4}".repeat(20_000);
    let error = json!({ "class": &long, "message": format!("x{long}"), "trace": &long });
    let end = fail(json!({ "error": error }).to_string().as_bytes()).unwrap();
    let End::Fail { failure, .. } = end else { panic!("a failure fails") };
    assert_eq!(failure.class, "\u{e4}".repeat(ERROR_CLASS_BYTES_MAX / 2));
    assert_eq!(failure.message.len(), ERROR_MESSAGE_BYTES_MAX - 1);
    assert_eq!(failure.trace.unwrap().len(), ERROR_TRACE_BYTES_MAX);
    let end = release(json!({ "reason": long }).to_string().as_bytes()).unwrap();
    let End::Release { reason, .. } = end else { panic!("a release releases") };
    assert_eq!(reason.unwrap().len(), RELEASE_REASON_BYTES_MAX);
}

#[test]
fn an_attempt_that_goes_on_says_how_far_it_is() {
    let read = |text: &str| extend(text.as_bytes());
    let nothing = Extension { by: None, progress: None, checkpoint: None };
    assert_eq!(read("").unwrap(), nothing);
    let all = read(r#"{"by":"60s","progress":0.5,"checkpoint":{"row": 1.0}}"#).unwrap();
    let checkpoint = Some(br#"{"row": 1.0}"#.to_vec());
    assert_eq!(all, Extension { by: Some(60 * SECOND), progress: Some(0.5), checkpoint });
    for part in ["1.01", "-0.1", "\"1\"", "[]"] {
        let text = format!(r#"{{"progress":{part}}}"#);
        assert_eq!(code(read(&text)), "invalid_progress", "{part}");
    }
    assert!(read(r#"{"progress":0}"#).is_ok() && read(r#"{"progress":1}"#).is_ok());
    assert_eq!(code(read(r#"{"by":0.5}"#)), "invalid_by");
    let kept = |bytes: usize| read(&format!(r#"{{"checkpoint":"{}"}}"#, "x".repeat(bytes - 2)));
    assert!(kept(JOB_CHECKPOINT_BYTES_MAX).is_ok());
    assert_eq!(code(kept(JOB_CHECKPOINT_BYTES_MAX + 1)), "too_large");
}

fn token() -> LeaseToken {
    LeaseToken { job: JobId::from_raw(7), fence: 9, secret: u64::MAX }
}

#[test]
fn a_lease_that_is_none_is_unknown() {
    assert_eq!(lease_token(&token().to_string()).unwrap(), token());
    assert_eq!(code(lease_token("x")), "unknown_lease");
    assert_eq!(worker_id("host-1/4").unwrap(), "host-1/4");
    let long = "w".repeat(WORKER_ID_BYTES_MAX + 1);
    assert_eq!((code(worker_id(&long)), code(worker_id(&long[1..]))), ("invalid_worker", "fine"));
}

#[test]
fn a_report_ends_several_and_asks_for_more() {
    let lease = token().to_string();
    let text = json!({
        "release": [{ "lease": &lease, "delay": 5 }],
        "done": [{ "lease": &lease, "result": 1 }, { "lease": "gone".repeat(100) }],
        "fail": [{ "lease": &lease, "error": { "message": "m" }, "retry": false }],
        "next": { "queues": ["a"], "max": 2 },
    });
    let read = report(text.to_string().as_bytes()).unwrap();
    let leases: Vec<_> = read.ended.iter().map(|ended| ended.lease).collect();
    assert_eq!(leases, [Some(token()), None, Some(token()), Some(token())]);
    assert_eq!(read.ended[0].named, lease);
    assert_eq!(read.ended[1].named.len(), LEASE_TEXT_BYTES_MAX);
    assert_eq!(read.ended[0].end, End::Done { result: Some(b"1".to_vec()) });
    assert_eq!(read.ended[1].end, End::Done { result: None });
    assert!(matches!(read.ended[2].end, End::Fail { retry: Retry::Never, .. }));
    assert_eq!(read.ended[3].end, End::Release { delay: 5 * SECOND, reason: None });
    assert_eq!(read.next.unwrap().max, 2);
    assert_eq!(report(b"{}").unwrap(), Report { ended: Vec::new(), next: None });

    let bad = |text: &str| told(&report(text.as_bytes()).unwrap_err());
    let entry = |rest: &str| format!(r#"{{"lease":"x","error":{{"message":""}}{rest}}}"#);
    let fails = format!(r#"{{"fail":[{},{}]}}"#, entry(""), entry(r#","retry":[]"#));
    assert_eq!(bad(&fails), ("invalid_retry", "retry".into(), Some(1)));
    assert_eq!(bad(r#"{"done":[{}]}"#), ("invalid_lease", "lease".into(), Some(0)));
    assert_eq!(bad(r#"{"done":[{"lease":"x","x":1}]}"#).0, "unknown_field");
    assert_eq!(bad(r#"{"done":{}}"#).0, "malformed");
    assert_eq!(bad(r#"{"next":{}}"#).0, "invalid_queues");
    let many = |done: usize, release: usize| {
        let entries = |count| vec![json!({ "lease": "x" }); count];
        let text = json!({ "done": entries(done), "release": entries(release) });
        code(report(text.to_string().as_bytes()))
    };
    assert_eq!((many(600, 400), many(600, 401)), ("fine", "too_large"));
}

#[test]
fn a_beat_says_how_a_worker_is() {
    assert_eq!(beat(b"").unwrap(), Beat::default());
    let text = json!({
        "pid": 4711, "host": "shop", "queues": ["a"], "state": "busy", "rss_bytes": 1,
        "peak_rss_bytes": 2, "cpu_percent": 12.5, "jobs_done": 3, "idle_ms": 4, "busy_ms": 5,
        "leases": [token().to_string(), "gone"], "extend": "60s",
    });
    let wanted = Beat {
        pid: Some(4711),
        host: Some("shop".to_owned()),
        queues: Some(vec![QueueName::parse("a").unwrap()]),
        state: Some(SaidState::Busy),
        rss_bytes: Some(1),
        peak_rss_bytes: Some(2),
        cpu_percent: Some(12.5),
        jobs_done: Some(3),
        idle_ms: Some(4),
        busy_ms: Some(5),
        leases: Some(vec![token()]),
        extend: Some(60 * SECOND),
    };
    assert_eq!(beat(text.to_string().as_bytes()).unwrap(), wanted);
    for (field, value) in [
        ("pid", "0"),
        ("pid", "2147483648"),
        ("host", "\"\""),
        ("queues", "{}"),
        ("state", "\"gone\""),
        ("rss_bytes", "-1"),
        ("peak_rss_bytes", "9007199254740992"),
        ("cpu_percent", "-0.5"),
        ("jobs_done", "1.5"),
        ("idle_ms", "\"4\""),
        ("busy_ms", "[]"),
        ("leases", "5"),
        ("extend", "0"),
    ] {
        let problem = beat(format!(r#"{{"{field}":{value}}}"#).as_bytes()).unwrap_err();
        assert_eq!(problem.kind.code, format!("invalid_{field}"), "{value}");
    }
    let said = |text: &str| command(text.as_bytes()).map(Command::as_str).map_err(|p| p.kind.code);
    for word in ["run", "drain", "restart"] {
        assert_eq!(said(&json!({ "command": word }).to_string()), Ok(word));
    }
    assert_eq!(said("{}"), Err("invalid_command"));
    assert_eq!(said(r#"{"command":"stop"}"#), Err("invalid_command"));
}

#[test]
fn settings_change_as_far_as_they_are_named() {
    assert_eq!(settings(b"{}").unwrap(), SettingsPatch::default());
    let text = r#"{"paused":true,"max_depth":10,"max_tries":null,"timeout":"90s","rate":"100/m",
        "backoff":{"kind":"fixed","base":1},"concurrency":4,"target_wait":"5m","history_payload":false,
        "retention":{"done":"1d","rows":5,"bytes":"64MiB","failed":null}}"#;
    let retention = RetentionPatch {
        done: Patch::Set(86_400 * SECOND),
        rows: Patch::Set(5),
        bytes: Patch::Set(64 << 20),
        failed: Patch::Default,
    };
    let wanted = SettingsPatch {
        paused: Patch::Set(true),
        max_depth: Patch::Set(10),
        max_tries: Patch::Default,
        timeout: Patch::Set(90 * SECOND),
        backoff: Patch::Set(Backoff::Fixed { base: SECOND }),
        rate: Patch::Set(Rate::parse("100/m").unwrap()),
        concurrency: Patch::Set(4),
        retention,
        target_wait: Patch::Set(300 * SECOND),
        history_payload: Patch::Set(false),
    };
    assert_eq!(settings(text.as_bytes()).unwrap(), wanted);
    let gone = settings(br#"{"retention":null}"#).unwrap().retention;
    assert_eq!((gone.done, gone.rows), (Patch::Default, Patch::Default));
    assert_eq!(Patch::<u8>::Keep.change(), None);
    assert_eq!(Patch::<u8>::Default.change(), Some(None));
    assert_eq!(Patch::Set(2).change(), Some(Some(2)));
    for (field, value) in [
        ("paused", "1"),
        ("max_depth", "0"),
        ("max_tries", "10001"),
        ("timeout", "\"8d\""),
        ("backoff", "\"5s\""),
        ("rate", "100"),
        ("rate", "\"0/s\""),
        ("rate", "\"1000001/s\""),
        ("rate", "\"1/d\""),
        ("rate", "\"+1/s\""),
        ("rate", "\"/s\""),
        ("concurrency", "0"),
        ("concurrency", "100001"),
        ("retention", "5"),
        ("retention", r#"{"bytes":"5%"}"#),
        ("retention", r#"{"done":"x"}"#),
        ("target_wait", "0"),
        ("history_payload", "\"no\""),
    ] {
        let problem = settings(format!(r#"{{"{field}":{value}}}"#).as_bytes()).unwrap_err();
        assert_eq!(problem.kind.code, format!("invalid_{field}"), "{value}");
        assert_eq!(told(&problem).1, field, "{value}");
    }
    let unknown = settings(br#"{"retention":{"days":1}}"#).unwrap_err();
    assert_eq!(told(&unknown), ("unknown_field", "retention.days".into(), None));
}

#[test]
fn a_queue_is_cleared_with_its_name_alone() {
    let queue = QueueName::parse("mails").unwrap();
    let read = |text: &str| clear(text.as_bytes(), &queue).map_err(|problem| problem.kind.code);
    assert_eq!(read(r#"{"confirm":"mails"}"#), Ok(vec![State::Waiting]));
    let both = r#"{"confirm":"mails","states":["failed","delayed","failed"]}"#;
    assert_eq!(read(both), Ok(vec![State::Failed, State::Delayed]));
    for wrong in ["{}", r#"{"confirm":"mail"}"#, r#"{"confirm":true}"#, r#"{"confirm":"Mails"}"#] {
        assert_eq!(read(wrong), Err("invalid_confirm"), "{wrong}");
    }
    for states in ["[]", "\"waiting\"", "[\"running\"]", "[\"done\"]", "[5]"] {
        let text = format!(r#"{{"confirm":"mails","states":{states}}}"#);
        assert_eq!(read(&text), Err("invalid_states"), "{states}");
    }
}

#[test]
fn failures_are_chosen_in_one_way() {
    let read = |text: &str| failures(text.as_bytes());
    let id = JobId::from_raw(5);
    let (chosen, rate) = read(&format!(r#"{{"ids":["{id}"],"rate":"20/s"}}"#)).unwrap();
    assert_eq!(chosen, Chosen::Ids(vec![id]));
    assert_eq!(rate, Some(Rate::parse("20/s").unwrap()));
    assert_eq!(read(r#"{"fingerprint":"f"}"#).unwrap().0, Chosen::Fingerprint("f".to_owned()));
    let queue = QueueName::parse("q").unwrap();
    assert_eq!(read(r#"{"queue":"q","ids":null}"#).unwrap().0, Chosen::Queue(queue));
    for wrong in ["{}", r#"{"rate":"1/s"}"#, r#"{"ids":[],"queue":"q"}"#] {
        assert_eq!(code(read(wrong)), "malformed", "{wrong}");
    }
    let wrong = read(&format!(r#"{{"ids":["{id}","x"]}}"#)).unwrap_err();
    assert_eq!(told(&wrong), ("invalid_ids", "ids".into(), None));
    assert!(wrong.fields.contains(&("item", json!(1))), "{wrong:?}");
    assert_eq!(code(read(r#"{"fingerprint":""}"#)), "invalid_fingerprint");
}

#[test]
fn a_schedule_says_when_and_what() {
    let read = |rest: &str| {
        schedule(format!(r#"{{"job":{{"queue":"q","payload":1}},{rest}}}"#).as_bytes(), now())
    };
    let all = read(
        r#""cron":"*/5 * * * *","timezone":"Europe/Berlin","overlap":"queue","catch_up":"one","jitter":"30s""#,
    );
    let wanted = WantedSchedule {
        due: Due::Cron("*/5 * * * *".to_owned()),
        timezone: Some("Europe/Berlin".to_owned()),
        overlap: Some(Overlap::Queue),
        catch_up: Some(CatchUp::One),
        jitter: 30 * SECOND,
        job: one(r#"{"queue":"q","payload":1}"#),
    };
    assert_eq!(all.unwrap(), wanted);
    let plain = read(r#""every":"1m""#).unwrap();
    let due = Due::Every(60 * SECOND);
    let nothing = WantedSchedule { due, timezone: None, overlap: None, catch_up: None, ..wanted };
    assert_eq!(plain, WantedSchedule { jitter: Duration::ZERO, ..nothing });
    for (rest, wanted) in [
        (r#""jitter":1"#, "invalid_cron"),
        (r#""cron":"* * * * *","every":1"#, "invalid_cron"),
        (r#""cron":"""#, "invalid_cron"),
        (r#""every":0.5"#, "invalid_every"),
        (r#""every":1,"timezone":"+02:00""#, "invalid_timezone"),
        (r#""every":1,"overlap":"replace""#, "invalid_overlap"),
        (r#""every":1,"catch_up":true"#, "invalid_catch_up"),
        (r#""every":1,"jitter":"25h""#, "invalid_jitter"),
        (r#""every":1,"tz":"UTC""#, "unknown_field"),
    ] {
        assert_eq!(code(read(rest)), wanted, "{rest}");
    }
    let job = |job: &str| code(schedule(format!(r#"{{"every":1,"job":{job}}}"#).as_bytes(), now()));
    assert_eq!(job("null"), "invalid_job");
    assert_eq!(job(r#"{"queue":"q","payload":1,"delay":5}"#), "invalid_job");
    assert_eq!(job(r#"{"queue":"q"}"#), "invalid_payload");
    assert_eq!(job(r#"{"queue":"q","payload":1,"jobs":[]}"#), "unknown_field");
}

/// Seeds are printed on failure; `HOLDFAST_SEED` replays one.
#[test]
fn what_is_read_is_json_and_every_payload_stands_in_it() {
    const PIECES: [&str; 16] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        " ",
        "null",
        "\"queue\":\"q\"",
        "\"payload\":",
        "\"jobs\":",
        "1.0",
        "\"\\u0061\"",
        "{\"queue\":\"q\",\"payload\":{\"a\":[1, 2]}}",
    ];
    let mut read = 0;
    for &seed in &seeds(5_000) {
        let mut rng = Rng::from_seed(seed);
        let mut text = String::from(
            r#"{"jobs":[{"queue":"q","payload":{"a":"}\""}},{"queue":"q","payload":[ 1.0]}]}"#,
        );
        for _ in 0..=rng.below(3) {
            let at = rng.index(text.len() + 1);
            let piece = PIECES[rng.index(PIECES.len())];
            match rng.below(3) {
                0 => text.insert_str(at, piece),
                1 => drop(text.drain(at..text.len().min(at + 1 + rng.index(6)))),
                _ => text.truncate(text.len() - rng.index(3).min(text.len())),
            }
        }
        let specs = jobs(text.as_bytes(), now());
        let valid = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let Ok(specs) = specs else { continue };
        read += 1;
        assert!(valid, "seed={seed} text={text}");
        for spec in specs {
            let payload = String::from_utf8(spec.payload.bytes).unwrap();
            let kept = spec.payload.content_type.is_some() || text.contains(&payload);
            assert!(kept, "seed={seed} text={text}");
        }
    }
    assert!(1 < seeds(5_000).len() && 20 < read || seeds(5_000).len() == 1, "{read} were read");
}
