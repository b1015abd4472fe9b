//! The parts of the cache's calls, from texts to what they mean: each refusal has its code.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::HeaderValue;
use serde_json::Value as Json;

use super::problem::Problem;
use super::tokens::duration;
use crate::base::human::parse_duration;
use crate::base::limits::{
    CACHE_LEASE_MAX, CACHE_LEASE_MIN, CACHE_TAGS_MAX, CALL_ITEMS_MAX, JSON_NUMBER_END, WAIT_MAX,
};
use crate::cache::entry::{BadLife, Condition, ContentType, Key, LeaseToken, Life, Tag};

/// What stands before the name of a class.
const CLASS: &str = "class:";

/// A key.
pub(super) fn key(text: &str) -> Result<Key<'_>, Problem> {
    Key::parse(text).map_err(|bad| Problem::new("invalid_key", bad.to_string()))
}

/// Refuses more than a call may carry.
pub(super) fn check_count(what: &str, count: usize) -> Result<(), Problem> {
    if count <= CALL_ITEMS_MAX {
        return Ok(());
    }
    let detail = format!("a call has at most {CALL_ITEMS_MAX} {what}; these are {count}");
    Err(Problem::new("too_large", detail).with("limit", CALL_ITEMS_MAX))
}

/// The keys of a call.
pub(super) fn keys(texts: &[String]) -> Result<Vec<Key<'_>>, Problem> {
    check_count("keys", texts.len())?;
    let keys = texts.iter().enumerate();
    keys.map(|(index, text)| key(text).map_err(|bad| bad.with("index", index))).collect()
}

/// Tags, each once.
pub(super) fn tags<'t>(texts: impl Iterator<Item = &'t str>) -> Result<Vec<Tag<'t>>, Problem> {
    let invalid = |detail: String| Problem::new("invalid_tags", detail);
    let mut tags = Vec::new();
    for text in texts {
        let tag = Tag::parse(text).map_err(|bad| invalid(bad.to_string()))?;
        if tags.contains(&tag) {
            continue;
        }
        if tags.len() == CACHE_TAGS_MAX {
            return Err(invalid(format!("there are at most {CACHE_TAGS_MAX} tags")));
        }
        tags.push(tag);
    }
    Ok(tags)
}

/// The type of a raw body.
pub(super) fn content_type(given: &HeaderValue) -> Result<ContentType<'_>, Problem> {
    content_type_text(given.to_str().unwrap_or(""))
}

/// The type of a value.
pub(super) fn content_type_text(text: &str) -> Result<ContentType<'_>, Problem> {
    ContentType::parse(text).ok_or_else(|| {
        let detail = "a content type has 1 to 255 visible characters of ASCII";
        Problem::new("invalid_content_type", detail)
    })
}

/// `if=`
pub(super) fn condition(text: &str) -> Result<Condition, Problem> {
    match text {
        "absent" => Ok(Condition::Absent),
        "present" => Ok(Condition::Present),
        _ => Err(Problem::new("invalid_if", "if is absent or present")),
    }
}

/// `lease=` of a put.
pub(super) fn lease_token(text: &str) -> Result<LeaseToken, Problem> {
    LeaseToken::parse(text).ok_or_else(|| {
        Problem::new("invalid_lease", "lease is what Holdfast-Lease said: 16 hexadecimal digits")
    })
}

/// `lease=` of a get.
pub(super) fn lease_time(text: &str) -> Result<Duration, Problem> {
    let invalid = |detail: String| Problem::new("invalid_lease", detail);
    let time = parse_duration(text).map_err(|bad| invalid(bad.to_string()))?;
    if (CACHE_LEASE_MIN..=CACHE_LEASE_MAX).contains(&time) {
        Ok(time)
    } else {
        Err(invalid("a lease is 100ms to 1h long".to_owned()))
    }
}

/// `wait=`
pub(super) fn wait(text: &str) -> Result<Duration, Problem> {
    let invalid = |detail: String| Problem::new("invalid_wait", detail);
    let time = parse_duration(text).map_err(|bad| invalid(bad.to_string()))?;
    if time <= WAIT_MAX {
        Ok(time)
    } else {
        Err(invalid(format!("wait is at most {}s", WAIT_MAX.as_secs())))
    }
}

/// How much is added to a number.
pub(super) fn step(by: i64) -> Result<i64, Problem> {
    if by.unsigned_abs() < JSON_NUMBER_END {
        Ok(by)
    } else {
        Err(Problem::new("invalid_by", "by is a whole number between -2^53 and 2^53"))
    }
}

/// The time of a key as a call gives it.
#[derive(Clone, Copy)]
pub(super) struct KeyTime<'t> {
    pub(super) ttl: Option<&'t Json>,
    pub(super) stale: Option<&'t Json>,
    pub(super) jitter: Option<&'t Json>,
}

impl KeyTime<'_> {
    /// How long the key lives. `chance` is a number from 0 to 1, asked for when there is jitter.
    pub(super) fn life(
        self,
        classes: &BTreeMap<String, Life>,
        chance: impl FnOnce() -> f64,
    ) -> Result<Life, Problem> {
        let (life, _) = self.life_and_origin(classes)?;
        let Some(jitter) = self.jitter.map(part).transpose()? else {
            return Ok(life);
        };
        let ttl = life.ttl().ok_or_else(|| {
            Problem::new("invalid_jitter", "jitter shortens a ttl; there is none")
        })?;
        let shorter = ttl.mul_f64(1.0 - jitter * chance()).max(Duration::from_millis(1));
        Life::new(Some(shorter), life.stale()).map_err(bad_life)
    }

    /// How long the key lives, and whether a class says so.
    pub(super) fn life_and_origin(
        self,
        classes: &BTreeMap<String, Life>,
    ) -> Result<(Life, bool), Problem> {
        let stale = self.stale.map(|stale| {
            duration(stale).map_err(|bad| Problem::new("invalid_stale", bad.to_string()))
        });
        let stale = stale.transpose()?;
        if let Some(Json::String(text)) = self.ttl
            && let Some(name) = text.strip_prefix(CLASS)
        {
            let class = classes.get(name).ok_or_else(|| unknown_class(name, classes))?;
            let life = Life::new(class.ttl(), stale.unwrap_or(class.stale()));
            return Ok((life.map_err(bad_life)?, true));
        }
        let ttl = self
            .ttl
            .map(|ttl| duration(ttl).map_err(|bad| Problem::new("invalid_ttl", bad.to_string())));
        let life = Life::new(ttl.transpose()?, stale.unwrap_or_default());
        Ok((life.map_err(bad_life)?, false))
    }
}

fn bad_life(bad: BadLife) -> Problem {
    let code = match bad {
        BadLife::Zero | BadLife::TooLong => "invalid_ttl",
        BadLife::StaleWithoutTtl | BadLife::StaleTooLong => "invalid_stale",
    };
    Problem::new(code, bad.to_string())
}

fn unknown_class(name: &str, classes: &BTreeMap<String, Life>) -> Problem {
    let known = classes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let name: String = name.chars().take(128).collect();
    let detail = format!(
        "there is no class {name:?}; there are: {known}; a new one is a section \
         [cache.class.{name}] of the configuration"
    );
    Problem::new("invalid_ttl", detail)
}

/// A part of something, from 0 to 1.
fn part(value: &Json) -> Result<f64, Problem> {
    let number = match value {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|part| (0.0..=1.0).contains(part)).ok_or_else(|| {
        Problem::new("invalid_jitter", "jitter is a number from 0 to 1: 0.1 is a tenth of the ttl")
    })
}

#[cfg(test)]
mod tests {
    use super::{KeyTime, condition, key, keys, lease_time, lease_token, step, tags, wait};
    use crate::cache::entry::Life;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn life(ttl: &Value, stale: &Value, jitter: &Value) -> Result<Life, &'static str> {
        let class = Life::new(Some(60 * SECOND), 240 * SECOND).unwrap();
        let classes = BTreeMap::from([("dashboard".to_owned(), class)]);
        let given = |value| Some(value).filter(|value: &&Value| !value.is_null());
        let time = KeyTime { ttl: given(ttl), stale: given(stale), jitter: given(jitter) };
        time.life(&classes, || 0.5).map_err(|problem| problem.kind.code)
    }

    #[test]
    fn a_ttl_is_seconds_a_text_or_a_class() {
        let lives = |ttl: Value, stale: Value| {
            let life = life(&ttl, &stale, &Value::Null).unwrap();
            (life.ttl(), life.stale())
        };
        assert_eq!(lives(Value::Null, Value::Null), (None, Duration::ZERO));
        assert_eq!(lives(json!(5), Value::Null), (Some(5 * SECOND), Duration::ZERO));
        assert_eq!(lives(json!(0.25), json!("1s")), (Some(SECOND / 4), SECOND));
        assert_eq!(lives(json!("class:dashboard"), Value::Null), (Some(60 * SECOND), 240 * SECOND));
        assert_eq!(lives(json!("class:dashboard"), json!(0)), (Some(60 * SECOND), Duration::ZERO));
    }

    #[test]
    fn jitter_shortens_a_ttl_by_a_part_of_it() {
        let ttl = |jitter: Value| life(&json!(100), &Value::Null, &jitter).map(Life::ttl);
        assert_eq!(ttl(json!(0.1)), Ok(Some(95 * SECOND)));
        assert_eq!(ttl(json!("1")), Ok(Some(50 * SECOND)));
        assert_eq!(ttl(json!(1.5)), Err("invalid_jitter"));
        assert_eq!(ttl(json!(-0.1)), Err("invalid_jitter"));
        assert_eq!(ttl(json!("NaN")), Err("invalid_jitter"));
        assert_eq!(life(&Value::Null, &Value::Null, &json!(0.1)), Err("invalid_jitter"));
    }

    #[test]
    fn what_is_no_time_is_refused_by_name() {
        let code = |ttl: Value, stale: Value| life(&ttl, &stale, &Value::Null).unwrap_err();
        for ttl in [json!(0), json!("0s"), json!(-1), json!("soon"), json!([]), json!(true)] {
            assert_eq!(code(ttl.clone(), Value::Null), "invalid_ttl", "{ttl}");
        }
        for ttl in [json!("class:"), json!("class:none"), json!("3651d"), json!("1e9")] {
            assert_eq!(code(ttl.clone(), Value::Null), "invalid_ttl", "{ttl}");
        }
        assert_eq!(code(Value::Null, json!(5)), "invalid_stale");
        assert_eq!(code(json!(5), json!("x")), "invalid_stale");
    }

    #[test]
    fn tags_count_once_and_are_bounded() {
        let read = |texts: &[&str]| {
            let tags = tags(texts.iter().copied()).map_err(|problem| problem.kind.code)?;
            Ok::<_, &'static str>(tags.len())
        };
        assert_eq!(read(&["a", "b", "a"]), Ok(2));
        assert_eq!(read(&[""]), Err("invalid_tags"));
        assert_eq!(read(&["a\nb"]), Err("invalid_tags"));
        let many: Vec<String> = (0..17).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(read(&many[..16]), Ok(16));
        assert_eq!(read(&many), Err("invalid_tags"));
    }

    #[test]
    fn the_rest_has_its_bounds() {
        assert_eq!(key("").unwrap_err().kind.code, "invalid_key");
        assert_eq!(key(&"k".repeat(1025)).unwrap_err().kind.code, "invalid_key");
        assert_eq!(key(&"k".repeat(1024)).unwrap().as_bytes().len(), 1024);
        assert_eq!(keys(&vec!["k".to_owned(); 1001]).unwrap_err().kind.code, "too_large");
        assert_eq!(keys(&vec!["k".to_owned(); 1000]).unwrap().len(), 1000);
        assert_eq!(lease_time("99ms").unwrap_err().kind.code, "invalid_lease");
        assert_eq!(lease_time("61m").unwrap_err().kind.code, "invalid_lease");
        assert_eq!(lease_time("1h").unwrap(), 3600 * SECOND);
        assert_eq!(wait("51").unwrap_err().kind.code, "invalid_wait");
        assert_eq!(wait("50").unwrap(), 50 * SECOND);
        assert_eq!(condition("Absent").unwrap_err().kind.code, "invalid_if");
        assert!(lease_token("00000000000000ff").is_ok());
        for text in ["", "ff", "00000000000000FF", "+0000000000000ff", "00000000000000fg"] {
            assert_eq!(lease_token(text).unwrap_err().kind.code, "invalid_lease", "{text}");
        }
        assert_eq!(step(1 << 53).unwrap_err().kind.code, "invalid_by");
        assert_eq!(step(i64::MIN).unwrap_err().kind.code, "invalid_by");
        assert_eq!(step(-(1 << 53) + 1).unwrap(), -(1 << 53) + 1);
    }
}
