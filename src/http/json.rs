//! JSON as it comes in: strict, bounded, and with every surprise named.

use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::problem::Problem;
use super::strict::Strict;
use crate::base::limits::JSON_DEPTH_MAX;

/// Reads `text` as a `T`: one value, no field that `T` does not know, no deeper than allowed.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::malformed("the body is empty; JSON is expected"));
    }
    check_depth(text)?;
    let mut unknown: Option<String> = None;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = serde_ignored::deserialize(Strict(&mut reader), |path| {
        unknown.get_or_insert_with(|| path.to_string());
    });
    // A value of the wrong type may be so because of a field that belongs elsewhere: the type counts.
    let value = value.map_err(|error| not_understood(&error))?;
    reader.end().map_err(|error| not_understood(&error))?;
    match unknown {
        None => Ok(value),
        Some(path) => {
            let path: String = path.chars().take(256).collect();
            let detail = format!("the field {path:?} is unknown");
            Err(Problem::new("unknown_field", detail).with("field", path))
        }
    }
}

fn not_understood(error: &serde_json::Error) -> Problem {
    // The library repeats what it found; that has a bound.
    let text: String = error.to_string().chars().take(512).collect();
    Problem::malformed(format!("the JSON is not what is expected here: {text}"))
}

/// Refuses what nests too deep, before anything is built of it.
pub(super) fn check_depth(text: &[u8]) -> Result<(), Problem> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if JSON_DEPTH_MAX < depth {
            let detail = format!("the JSON nests deeper than {JSON_DEPTH_MAX}");
            return Err(Problem::malformed(detail));
        }
    }
    Ok(())
}

/// A map; `[]` counts as an empty one, because that is what PHP makes of it.
pub(super) fn map_or_empty_list<'de, D>(
    deserializer: D,
) -> Result<Option<serde_json::Map<String, Value>>, D::Error>
where
    D: Deserializer<'de>,
{
    struct MapOrList;
    impl<'de> Visitor<'de> for MapOrList {
        type Value = Option<serde_json::Map<String, Value>>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = serde_json::Map::new();
            while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                if map.contains_key(&key) {
                    let text =
                        format!("duplicate key `{}`", key.chars().take(64).collect::<String>());
                    return Err(serde::de::Error::custom(text));
                }
                map.insert(key, value);
            }
            Ok(Some(map))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            match items.next_element::<serde::de::IgnoredAny>()? {
                None => Ok(Some(serde_json::Map::new())),
                Some(_) => Err(serde::de::Error::custom("a map is expected, not a list")),
            }
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }
    }
    deserializer.deserialize_any(MapOrList)
}

#[cfg(test)]
mod tests {
    use super::{map_or_empty_list, read};

    #[derive(Debug, serde::Deserialize)]
    struct Wire {
        name: String,
        #[serde(default, deserialize_with = "map_or_empty_list")]
        map: Option<serde_json::Map<String, serde_json::Value>>,
    }

    fn refused(text: &str) -> (&'static str, String) {
        let problem = read::<Wire>(text.as_bytes()).unwrap_err();
        (problem.kind.code, problem.detail)
    }

    #[test]
    fn what_nobody_knows_is_named() {
        let (code, detail) = refused(r#"{"name":"a","nmae":1}"#);
        assert_eq!((code, detail.as_str()), ("unknown_field", "the field \"nmae\" is unknown"));
        assert_eq!(refused(r#"{"name":"a","name":"b"}"#).0, "malformed");
        assert_eq!(refused(r#"{"name":1}"#).0, "malformed");
        assert_eq!(refused(r#"{"name":"a"} x"#).0, "malformed");
        assert_eq!(refused(r#"{"name":"a"#).0, "malformed");
        assert_eq!(refused(" ").0, "malformed");
        assert!(read::<Wire>(b"{\"name\":\"\xff\"}").is_err());
        assert_eq!(read::<Wire>(br#"{"name":"a"}"#).unwrap().name, "a");
    }

    #[test]
    fn a_list_of_its_fields_is_no_object_at_any_depth() {
        #[derive(Debug, serde::Deserialize)]
        struct Outer {
            inner: Vec<Option<Wire>>,
        }
        assert_eq!(refused(r#"["a",null]"#).0, "malformed");
        let read = |text: &str| read::<Outer>(text.as_bytes());
        assert!(read(r#"{"inner":[["a",null]]}"#).is_err());
        assert!(read(r#"[[{"name":"a"}]]"#).is_err());
        let outer = read(r#"{"inner":[{"name":"a"},null]}"#).unwrap();
        assert_eq!(outer.inner.len(), 2);
        assert_eq!(
            read(r#"{"inner":[{"name":"a","x":1}]}"#).unwrap_err().kind.code,
            "unknown_field"
        );
    }

    #[test]
    fn an_empty_list_is_an_empty_map() {
        let map = |text: &str| read::<Wire>(text.as_bytes()).map(|wire| wire.map.map(|m| m.len()));
        assert_eq!(map(r#"{"name":"a","map":[]}"#).unwrap(), Some(0));
        assert_eq!(map(r#"{"name":"a","map":{"x":1}}"#).unwrap(), Some(1));
        assert_eq!(map(r#"{"name":"a","map":null}"#).unwrap(), None);
        assert!(map(r#"{"name":"a","map":[1]}"#).is_err());
        assert!(map(r#"{"name":"a","map":{"x":1,"x":2}}"#).is_err());
    }

    #[test]
    fn deep_json_is_refused_before_it_is_built() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(read::<serde_json::Value>(deep(64).as_bytes()).is_ok());
        assert!(read::<serde_json::Value>(deep(65).as_bytes()).is_err());
        assert!(read::<serde_json::Value>(deep(1 << 19).as_bytes()).is_err());
        let text = format!("\"{}\\\"\"", "[".repeat(1000));
        assert!(read::<serde_json::Value>(text.as_bytes()).is_ok(), "brackets in a text");
    }
}
