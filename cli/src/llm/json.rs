//! JSON in the text of an answer, whatever stands around it.

use serde_json::Value;

/// Places at which a value is tried to begin; an answer made of brackets alone must not take forever.
const MOST_TRIES: usize = 2000;

/// All that is JSON in `text`, from the left: the whole of it, or the largest values that are whole in it.
///
/// Prose around, fences of Markdown, a value per line, and an object whose end is missing, of which the whole parts are
/// found, are all the same here. With `beginnings` as `{[` objects and lists are looked for, with `"` texts.
pub(crate) fn json_values(text: &str, beginnings: &[char]) -> Vec<Value> {
    if let Ok(whole) = serde_json::from_str(text.trim()) {
        return vec![whole];
    }
    let mut found = vec![];
    let mut rest = text;
    for _ in 0..MOST_TRIES {
        let Some(at) = rest.find(beginnings) else { break };
        rest = &rest[at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        if let Some(Ok(value)) = values.next() {
            rest = rest.get(values.byte_offset()..).unwrap_or_default();
            found.push(value);
        } else {
            // A beginning is one byte long.
            rest = &rest[1..];
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_found_wherever_they_are() {
        let found = |text: &str| json_values(text, &['{', '[']);
        assert_eq!(found(" {\"a\": 1}\n"), [json!({"a": 1})]);
        assert_eq!(found("Sure! {Here} it is:\n```json\n[{\"a\": 1}]\n```\nEnjoy."), [json!([{"a": 1}])]);
        assert_eq!(found("{\"a\": 1}\n{\"a\": 2},\n\n{\"a\": 3}"), [json!({"a": 1}), json!({"a": 2}), json!({"a": 3})]);
        assert_eq!(found("{\"all\": [{\"a\": 1}, {\"a\": 2}, {\"a\": "), [json!({"a": 1}), json!({"a": 2})]);
        assert_eq!(found("{\"a\": \"}{\"} é {"), [json!({"a": "}{"})]);
        assert_eq!(found("nothing"), Vec::<Value>::new());
        assert_eq!(json_values("{\"prompts\": [\"one\", \"two\", \"thr", &['"']), ["prompts", "one", "two"]);
    }

    #[test]
    fn brackets_without_end_take_no_time() {
        let started = std::time::Instant::now();
        assert_eq!(json_values(&"[".repeat(200_000), &['{', '[']), Vec::<Value>::new());
        assert_eq!(json_values(&"{\"".repeat(100_000), &['{', '[']), Vec::<Value>::new());
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }
}
