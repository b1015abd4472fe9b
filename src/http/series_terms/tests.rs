//! Each call of the series: what it means, and what is refused under which name.

use std::collections::BTreeSet;

use hyper::header::HeaderValue;

use super::ask::{BATCH_FIELDS, Batch, QUERY_FIELDS};
use super::sample::{BODY_FIELDS, SAMPLE_FIELDS};
use super::*;
use crate::base::limits::{
    JSON_DEPTH_MAX, LABELS_MAX, QUERY_BATCH_MAX, QUERY_DEADLINE, WRITE_CHUNK_SAMPLES,
};
use crate::base::rng::Rng;
use crate::http::openapi::{self, Content, Schemas};
use crate::http::series::{query as query_bodies, write as write_bodies};
use crate::series::Kind;
use crate::series::fold::{Function, Reduce};
use crate::series::labels::Labels;
use crate::series::memory::Name;
use crate::series::query::Query;
use crate::testing::seeds;

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1_763_640_000_500).unwrap()
}

/// A sample as it was understood: labels as they are written, kind, time, bits of the value.
type Read = (u32, String, Option<Kind>, Option<i64>, u64);

fn read(format: Format, body: &[u8]) -> Result<(Vec<Read>, Vec<Rejected>), Problem> {
    let (mut all, mut refused) = (Vec::new(), Vec::new());
    let read = samples(format, body, now(), |samples, rejected| {
        assert!(samples.len() + rejected.len() <= WRITE_CHUNK_SAMPLES);
        all.extend(samples.iter().map(|sample| {
            let name = match &sample.name {
                Name::Text { name, metric } => {
                    assert!(name.starts_with(metric));
                    (*name).to_owned()
                }
                Name::Labels(labels) => labels.to_string(),
            };
            (sample.place, name, sample.kind, sample.time_ms, sample.value.to_bits())
        }));
        refused.extend_from_slice(rejected);
        Ok(())
    });
    if read.is_err() {
        assert_eq!((all.len(), refused.len()), (0, 0), "all of a body or nothing");
    }
    read.map(|()| (all, refused))
}

fn json(text: &str) -> (Vec<Read>, Vec<Rejected>) {
    read(Format::Json, text.as_bytes()).unwrap_or_else(|problem| panic!("{text}: {problem:?}"))
}

/// One sample of this JSON.
fn one(sample: &str) -> Result<Read, (&'static str, String)> {
    let (mut all, mut refused) = json(&format!("{{\"samples\":[{sample}]}}"));
    assert_eq!(all.len() + refused.len(), 1, "{sample}");
    match refused.pop() {
        Some(rejected) => Err((rejected.code, rejected.detail)),
        None => Ok(all.remove(0)),
    }
}

/// The value of a sample, as its bits.
fn value(text: &str) -> Result<u64, &'static str> {
    let read = one(&format!("{{\"metric\":\"m\",\"value\":{text}}}"));
    read.map(|read| read.4).map_err(|(code, _)| code)
}

fn refused(body: &str) -> (&'static str, Option<u64>) {
    let problem = read(Format::Json, body.as_bytes()).expect_err(body);
    let index = problem.fields.iter().find(|(name, _)| *name == "index");
    (problem.kind.code, index.and_then(|(_, value)| value.as_u64()))
}

#[test]
fn values_are_read_to_the_bit() {
    for (text, number) in [
        ("0", 0.0),
        ("-0", -0.0),
        ("-0.0", -0.0),
        ("0.1", 0.1),
        ("1e-320", 1e-320),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("1.7976931348623157e308", f64::MAX),
        // The reader of JSON would be one bit off.
        ("123.4567890123456789e-30", 123.456_789_012_345_68e-30),
        ("\"+Inf\"", f64::INFINITY),
        ("\"-Inf\"", f64::NEG_INFINITY),
        ("\"NaN\"", f64::NAN),
    ] {
        assert_eq!(value(text), Ok(number.to_bits()), "{text}");
    }
    for seed in seeds(20) {
        let mut rng = Rng::from_seed(seed);
        for _ in 0..500 {
            let number = f64::from_bits(rng.next_u64());
            if number.is_finite() {
                let text = format!("{number:e}");
                assert_eq!(value(&text), Ok(number.to_bits()), "seed {seed}: {text}");
            }
        }
    }
}

#[test]
fn what_is_no_value_is_refused_with_its_place() {
    for text in
        ["null", "true", "[]", "{}", "\"1\"", "\"nan\"", "\"Inf\"", "\"\"", "1e999", "-1e400"]
    {
        assert_eq!(value(text), Err("invalid_value"), "{text}");
    }
    let (all, refused) = json(
        r#"{"samples":[{"metric":"a","value":1},{"metric":"b"},{"metric":"c","value":"x"},{"metric":"d","value":2}]}"#,
    );
    assert_eq!(all.iter().map(|read| read.0).collect::<Vec<_>>(), [0, 3]);
    let places: Vec<_> = refused.iter().map(|rejected| (rejected.place, rejected.code)).collect();
    assert_eq!(places, [(1, "invalid_value"), (2, "invalid_value")]);
}

#[test]
fn a_sample_says_what_it_is_when_it_was_and_of_what() {
    let whole = r#"{"metric":"cpu","labels":{"host":"a","core":"0"},"value":0.5,"time":1763640000,"kind":"distribution"}"#;
    let half = 0.5_f64.to_bits();
    let name = "cpu{core=\"0\",host=\"a\"}".to_owned();
    let kind = Some(Kind::Distribution);
    assert_eq!(one(whole), Ok((0, name, kind, Some(1_763_640_000_000), half)));
    for (time, ms) in [
        ("1763640000.25", 1_763_640_000_250),
        ("\"1763640000\"", 1_763_640_000_000),
        ("\"2025-11-20T12:00:00Z\"", 1_763_640_000_000),
        ("\"-1m\"", 1_763_639_940_500),
        ("\"now\"", 1_763_640_000_500),
    ] {
        let read = one(&format!("{{\"metric\":\"m\",\"value\":1,\"time\":{time}}}"));
        assert_eq!(read.unwrap().3, Some(ms), "{time}");
    }
    // Nothing is said by null, and PHP's empty map is one.
    for rest in
        ["", ",\"labels\":[]", ",\"labels\":{}", ",\"labels\":null,\"time\":null,\"kind\":null"]
    {
        let read = one(&format!("{{\"metric\":\"m\",\"value\":1{rest}}}")).unwrap();
        assert_eq!((read.1.as_str(), read.2, read.3), ("m", None, None), "{rest}");
    }
    let escaped = r#"{"metric":"m\u0031","labels":{"a\u0062":"x\"y\\z\n\u00e4"},"value":1}"#;
    let labels = Labels::new("m1", [("ab", "x\"y\\z\n\u{e4}")]).unwrap();
    assert_eq!(one(escaped).unwrap().1, labels.to_string());
}

#[test]
fn a_sample_that_is_wrong_by_itself_is_refused_alone() {
    for (rest, code) in [
        (r#""metric":5"#, "invalid_labels"),
        (r#""metric":null"#, "invalid_labels"),
        (r#""metric":"""#, "invalid_labels"),
        (r#""metric":"a b""#, "invalid_labels"),
        (r#""labels":{}"#, "invalid_labels"),
        (r#""metric":"m","labels":{"a":1}"#, "invalid_labels"),
        (r#""metric":"m","labels":{"a":null}"#, "invalid_labels"),
        (r#""metric":"m","labels":{"a b":"c"}"#, "invalid_labels"),
        (r#""metric":"m","labels":{"a":"b","a":"c"}"#, "invalid_labels"),
        (r#""metric":"m","labels":{"__name__":"c"}"#, "invalid_labels"),
        (r#""metric":"m","labels":["a"]"#, "invalid_labels"),
        (r#""metric":"m","labels":"a""#, "invalid_labels"),
        (r#""metric":"m","time":"yesterday""#, "invalid_time"),
        (r#""metric":"m","time":1763640000000"#, "invalid_time"),
        (r#""metric":"m","time":-5"#, "invalid_time"),
        (r#""metric":"m","time":{}"#, "invalid_time"),
        (r#""metric":"m","kind":"histogram""#, "invalid_kind"),
        (r#""metric":"m","kind":1"#, "invalid_kind"),
    ] {
        let read = one(&format!("{{{rest},\"value\":1}}"));
        assert_eq!(read.map_err(|(code, _)| code), Err(code), "{rest}");
    }
    let labels = |count: usize| {
        let pairs: Vec<String> = (0..count).map(|n| format!("\"l{n}\":\"v\"")).collect();
        one(&format!("{{\"metric\":\"m\",\"labels\":{{{}}},\"value\":1}}", pairs.join(",")))
    };
    assert!(labels(LABELS_MAX).is_ok());
    assert_eq!(labels(LABELS_MAX + 1).unwrap_err().0, "invalid_labels");
}

#[test]
fn a_body_that_cannot_be_read_is_refused_before_anything_is_taken() {
    let many = "{\"metric\":\"m\",\"value\":1},".repeat(WRITE_CHUNK_SAMPLES + 1);
    for (body, told) in [
        ("", ("malformed", None)),
        ("[]", ("malformed", None)),
        ("{}", ("malformed", None)),
        ("{\"samples\":5}", ("malformed", None)),
        ("{\"samples\":{}}", ("malformed", None)),
        ("{\"samples\":[],\"x\":1}", ("unknown_field", None)),
        ("{\"samples\":[],\"samples\":[]}", ("malformed", None)),
        ("{\"samples\":[5]}", ("malformed", Some(0))),
        ("{\"samples\":[{\"metric\":\"m\",\"value\":1} x]}", ("malformed", None)),
        ("{\"samples\":[{\"metric\":\"m\",\"value\":01}]}", ("malformed", None)),
        ("{\"samples\":[{\"metric\":\"m\",\"value\":NaN}]}", ("malformed", None)),
        (
            "{\"samples\":[{\"metric\":\"m\",\"value\":1},{\"metrik\":\"m\"}]}",
            ("unknown_field", Some(1)),
        ),
        ("{\"samples\":[{\"metric\":\"m\",\"metric\":\"m\"}]}", ("malformed", Some(0))),
        (&format!("{{\"samples\":[{many}{{\"vlaue\":1}}]}}"), ("unknown_field", Some(8193))),
        (&format!("{{\"samples\":[{many}5]}}"), ("malformed", Some(8193))),
        (&"[".repeat(JSON_DEPTH_MAX + 1), ("malformed", None)),
    ] {
        assert_eq!(refused(body), told, "{}", &body[..body.len().min(80)]);
    }
    assert_eq!(json("{\"samples\":[]}"), (Vec::new(), Vec::new()));
    let latin = read(Format::Json, b"{\"samples\":[{\"metric\":\"\xe4\"}]}").unwrap_err();
    assert_eq!(latin.kind.code, "malformed");
}

#[test]
fn a_long_body_is_handed_on_in_pieces_and_in_order() {
    let count = 2 * WRITE_CHUNK_SAMPLES + 7;
    let items: Vec<String> =
        (0..count).map(|n| format!("{{\"metric\":\"m{n}\",\"value\":{n}}}")).collect();
    let (all, _) = json(&format!("{{\"samples\":[{}]}}", items.join(",")));
    assert_eq!(all.len(), count);
    assert!((0..).zip(&all).all(|(n, read)| read.0 == n && read.1 == format!("m{n}")));
    let lines: Vec<String> = (0..count).map(|n| format!("m{n} {n}")).collect();
    let text = lines.join("\n");
    let (all, _) = read(Format::Text, text.as_bytes()).unwrap();
    assert_eq!(all.len(), count);
    assert!((1..).zip(&all).all(|(n, read)| read.0 == n && read.1 == format!("m{}", n - 1)));
}

#[test]
fn lines_are_taken_or_refused_one_by_one() {
    let text = "# TYPE a counter\na{x=\"1\"} 5 1763640000000\n\nb{ 1\nc -0\nd NaN\n";
    let (all, refused) = read(Format::Text, text.as_bytes()).unwrap();
    let short: Vec<_> = all.iter().map(|read| (read.0, read.1.as_str(), read.2, read.3)).collect();
    let at = Some(1_763_640_000_000);
    assert_eq!(
        short,
        [(2, "a{x=\"1\"}", Some(Kind::Counter), at), (5, "c", None, None), (6, "d", None, None)]
    );
    assert_eq!(all[1].4, (-0.0_f64).to_bits());
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].place, refused[0].code), (4, "malformed"));
    let latin = read(Format::Text, b"a 1\nb{x=\"\xe4\"} 1\n").unwrap_err();
    assert_eq!(latin.kind.code, "malformed");
    assert_eq!(latin.fields, [("line", serde_json::Value::from(2))]);
}

#[test]
fn the_type_of_the_body_says_how_it_is_read() {
    let of = |text: &str| {
        let value = HeaderValue::from_str(text).unwrap();
        Format::of(Some(&value)).map_err(|problem| problem.kind.code)
    };
    assert_eq!(Format::of(None).unwrap(), Format::Json);
    assert_eq!(of("application/json; charset=utf-8"), Ok(Format::Json));
    assert_eq!(of("text/plain; version=0.0.4; charset=utf-8"), Ok(Format::Text));
    assert_eq!(of("Text/Plain"), Ok(Format::Text));
    for other in [
        "application/openmetrics-text; version=1.0.0",
        "application/x-www-form-urlencoded",
        "text/html",
        "",
    ] {
        assert_eq!(of(other), Err("unsupported_media_type"), "{other}");
    }
}

fn asked(select: &str) -> Asked<'_> {
    Asked { select: Some(select.into()), ..Asked::default() }
}

fn code(asked: &Asked<'_>) -> &'static str {
    query(asked, now()).expect_err("it is refused").kind.code
}

#[test]
fn a_query_has_defaults_for_all_but_the_series() {
    let Query { select, function, by, reduce, from_ms, to_ms, step_ms, now_ms } =
        query(&asked("cpu{host=\"a\"}"), now()).unwrap();
    assert_eq!(select.metric.as_deref(), Some("cpu"));
    assert_eq!((function, by, reduce, step_ms), (Function::Avg, None, None, None));
    assert_eq!((from_ms, to_ms, now_ms), (1_763_636_400_500, 1_763_640_000_500, 1_763_640_000_500));
    assert_eq!(code(&Asked::default()), "invalid_select");
}

#[test]
fn a_query_is_read_word_by_word() {
    let full = Asked {
        select: Some("cpu".into()),
        function: Some("p95".into()),
        by: Some(names("host, core,host")),
        reduce: Some("max".into()),
        range: Range {
            from: Some("-24h".into()),
            to: Some("1763640000".into()),
            step: Some("5m".into()),
        },
    };
    let read = query(&full, now()).unwrap();
    assert_eq!(read.function, Function::Quantile(0.95));
    assert_eq!(read.by, Some(vec!["host".to_owned(), "core".to_owned()]));
    assert_eq!((read.reduce, read.step_ms), (Some(Reduce::Max), Some(300_000)));
    assert_eq!(read.to_ms, 1_763_640_000_000);
    let all = Asked { by: Some(names("")), ..asked("cpu") };
    assert_eq!(query(&all, now()).unwrap().by, Some(Vec::new()), "all of them together");
}

#[test]
fn what_is_wrong_with_a_query_has_its_own_code() {
    let refused = |change: fn(&mut Asked<'_>)| {
        let mut asked = asked("cpu");
        change(&mut asked);
        code(&asked)
    };
    assert_eq!(refused(|asked| asked.select = Some("cpu{".into())), "invalid_select");
    assert_eq!(refused(|asked| asked.function = Some("median".into())), "invalid_fn");
    assert_eq!(refused(|asked| asked.reduce = Some("count".into())), "invalid_reduce");
    assert_eq!(refused(|asked| asked.by = Some(names("a,,b"))), "invalid_by");
    assert_eq!(refused(|asked| asked.by = Some(names("a-b"))), "invalid_by");
    assert_eq!(refused(|asked| asked.range.from = Some("soon".into())), "invalid_from");
    assert_eq!(refused(|asked| asked.range.to = Some("1763640000000".into())), "invalid_to");
    for step in ["0", "-5m", "x", "0.0001s"] {
        let range = Range { step: Some(step.into()), ..Range::default() };
        assert_eq!(code(&Asked { range, ..asked("cpu") }), "invalid_step", "{step}");
    }
    let many: Vec<String> = (0..=LABELS_MAX).map(|n| format!("l{n}")).collect();
    let many = many.join(",");
    let by = Some(names(&many));
    assert_eq!(code(&Asked { by, ..asked("cpu") }), "invalid_by");
    let bad = selector("match", Some("cpu{a=}")).unwrap_err();
    assert_eq!(bad.kind.code, "invalid_match");
    assert!(bad.fields.iter().any(|(name, at)| *name == "at" && at.as_u64() == Some(6)), "{bad:?}");
    assert_eq!(selector("match", None).unwrap_err().kind.code, "invalid_match");
}

fn batch_of(text: &str) -> Result<Batch, &'static str> {
    batch(text.as_bytes(), now()).map_err(|problem| problem.kind.code)
}

#[test]
fn the_queries_of_a_batch_share_what_they_do_not_say() {
    let batch = batch_of(
        r#"{"queries":{"b":{"select":"cpu","fn":"max","by":["host"],"reduce":"avg"},
            "a":{"select":"mem","from":"-2h","step":60,"by":"host,core"}},
            "from":"-1d","to":"now","step":"1h","timeout":"10s"}"#,
    )
    .unwrap();
    assert_eq!(batch.within.as_secs(), 10);
    let read: Vec<_> =
        batch.queries.iter().map(|(name, query)| (name, query.as_ref().unwrap())).collect();
    let [(first, b), (second, a)] = read[..] else { panic!("{read:?}") };
    assert_eq!((first.as_str(), second.as_str()), ("b", "a"), "in the order of the call");
    assert_eq!(
        (b.function, b.by.as_deref(), b.reduce),
        (Function::Max, Some(&["host".to_owned()][..]), Some(Reduce::Avg))
    );
    assert_eq!((b.now_ms - b.from_ms, b.to_ms, b.step_ms), (86_400_000, b.now_ms, Some(3_600_000)));
    assert_eq!((a.now_ms - a.from_ms, a.step_ms), (7_200_000, Some(60_000)));
    assert_eq!(a.by.as_ref().map(Vec::len), Some(2));
    let raw = batch_of(r#"{"queries":{"r":{"select":"x","fn":"raw"}},"step":60}"#).unwrap();
    let raw = raw.queries[0].1.as_ref().unwrap();
    assert_eq!((raw.function, raw.step_ms), (Function::Raw, None), "samples as they are have none");
    assert_eq!(batch_of("{\"queries\":[]}").unwrap().within, QUERY_DEADLINE);
}

#[test]
fn a_query_of_a_batch_that_is_wrong_leaves_its_neighbours_alone() {
    let batch = batch_of(
        r#"{"queries":{"a":{"select":"cpu"},"b":{"select":"cpu{"},"c":{},"d":{"select":"x","stepp":1},"e":5,
            "f":{"select":5},"g":{"select":"x","step":"soon"},"h":{"select":"x","by":[1]}}}"#,
    )
    .unwrap();
    let told = |query: &Result<Query, Problem>| {
        query.as_ref().map_or_else(|bad| bad.kind.code, |_| "well")
    };
    let all: Vec<_> = batch.queries.iter().map(|(_, query)| told(query)).collect();
    let expected = [
        "well",
        "invalid_select",
        "invalid_select",
        "unknown_field",
        "malformed",
        "invalid_select",
        "invalid_step",
        "invalid_by",
    ];
    assert_eq!(all, expected);
}

#[test]
fn a_batch_that_is_none_is_refused_as_a_whole() {
    let query = "{\"select\":\"x\"}";
    let many = |count: usize| {
        let all: Vec<String> = (0..count).map(|n| format!("\"q{n}\":{query}")).collect();
        format!("{{\"queries\":{{{}}}}}", all.join(","))
    };
    assert_eq!(batch_of(&many(QUERY_BATCH_MAX)).unwrap().queries.len(), QUERY_BATCH_MAX);
    for (text, code) in [
        ("", "malformed"),
        ("{}", "malformed"),
        ("{\"queries\":{}", "malformed"),
        ("{\"queries\":{},\"form\":1}", "unknown_field"),
        ("{\"queries\":[{\"select\":\"x\"}]}", "invalid_queries"),
        ("{\"queries\":5}", "invalid_queries"),
        (&format!("{{\"queries\":{{\"\":{query}}}}}"), "invalid_queries"),
        (&format!("{{\"queries\":{{\"{}\":{query}}}}}", "n".repeat(129)), "invalid_queries"),
        (&format!("{{\"queries\":{{\"a\":{query},\"\\u0061\":{query}}}}}"), "invalid_queries"),
        (&many(QUERY_BATCH_MAX + 1), "too_large"),
        ("{\"queries\":{},\"from\":\"x\"}", "invalid_from"),
        ("{\"queries\":{},\"to\":[]}", "invalid_to"),
        ("{\"queries\":{},\"step\":0}", "invalid_step"),
        ("{\"queries\":{},\"timeout\":\"16s\"}", "invalid_timeout"),
        ("{\"queries\":{},\"timeout\":0}", "invalid_timeout"),
    ] {
        assert_eq!(batch_of(text).map(|batch| batch.queries.len()), Err(code), "{text}");
    }
}

#[test]
fn truth_is_spelled_in_four_ways() {
    let read = |text| truth_of("durable", text).map_err(|problem| problem.kind.code);
    assert_eq!(read(None), Ok(false));
    for (text, truth) in [("1", true), ("TRUE", true), ("0", false), ("False", false)] {
        assert_eq!(read(Some(text)), Ok(truth));
    }
    assert_eq!(read(Some("yes")), Err("invalid_durable"));
    assert_eq!(read(Some("")), Err("invalid_durable"));
}

#[track_caller]
fn check(content: Content, read: &[&str]) {
    let mut schemas = Schemas::new();
    let (_, schema) = content(&mut schemas).remove(0);
    let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let shown = schemas[name]["properties"].as_object().unwrap();
    let shown: BTreeSet<&str> = shown.keys().map(String::as_str).collect();
    assert_eq!(shown, read.iter().copied().collect(), "{name}");
}

#[test]
fn what_the_document_shows_is_what_is_read() {
    check(openapi::json::<write_bodies::SamplesRequest>, &BODY_FIELDS);
    check(openapi::json::<write_bodies::SampleRequest>, &SAMPLE_FIELDS);
    check(openapi::json::<query_bodies::BatchRequest>, &BATCH_FIELDS);
    check(openapi::json::<query_bodies::BatchQuery>, &QUERY_FIELDS);
}
