//! `xp.cfg`: the training configuration in a file of audiocraft, YAML as Hydra and `OmegaConf` write it.

use std::path::Path;

use pytorch_reader::PickleValue;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::checkpoint::{LoadError, PyTorchFile, typed};

/// Longest configuration that is parsed, in bytes; a published one has some 20 KB.
const LONGEST: usize = 1 << 20;
/// Most brackets that open a list or a mapping: the parser's time grows with their square.
const MOST_BRACKETS: usize = 4096;
/// Most indicators of nested lists and keys in one line.
const MOST_NESTED: usize = 64;
/// Deepest chain of interpolations that refer to each other.
const DEEPEST: usize = 16;
/// Most values that interpolations may copy.
const MOST_COPIED: usize = 100_000;

/// The configuration in the file at `path`, interpolations resolved, fields that are `null` left out.
///
/// # Errors
/// [`LoadError::Config`] if there is none, or a field is missing or of another type.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, LoadError> {
    let config = |reason: String| LoadError::Config { path: path.to_owned(), reason };
    match PyTorchFile::value(path, "xp.cfg")? {
        Some(PickleValue::String(yaml)) => parse(&yaml).map_err(|reason| config(format!("`xp.cfg`: {reason}"))),
        Some(_) => Err(config("`xp.cfg` is not text".to_owned())),
        None => Err(config("it has no `xp.cfg`, which audiocraft's checkpoints carry with them".to_owned())),
    }
}

fn parse<T: DeserializeOwned>(yaml: &str) -> Result<T, String> {
    bounded(yaml)?;
    let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(yaml).map_err(|error| error.to_string())?;
    let root = json(value);
    let mut resolver = Resolver { root: &root, copied: 0 };
    let resolved = resolver.resolve(&root, &mut vec![], 0);
    typed(resolved)
}

/// Refuses what would take the parser minutes.
fn bounded(yaml: &str) -> Result<(), String> {
    if yaml.len() > LONGEST {
        return Err(format!("it has {} bytes, expected {LONGEST} at most", yaml.len()));
    }
    let brackets = yaml.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets > MOST_BRACKETS {
        return Err(format!("it has {brackets} brackets, expected {MOST_BRACKETS} at most"));
    }
    let nested = |line: &str| line.split([' ', '\t']).filter(|word| matches!(*word, "-" | "?" | ":")).count();
    match yaml.lines().map(nested).max() {
        Some(most) if most > MOST_NESTED => {
            Err(format!("it nests {most} lists in one line, expected {MOST_NESTED} at most"))
        }
        _ => Ok(()),
    }
}

/// YAML as JSON; tags are dropped, and keys that are no text are written as text.
fn json(value: serde_yaml_ng::Value) -> Value {
    use serde_yaml_ng::Value as Yaml;

    match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Number(number) => {
            let whole = number.as_u64().map(Value::from).or_else(|| number.as_i64().map(Value::from));
            whole.unwrap_or_else(|| number.as_f64().map_or(Value::Null, Value::from))
        }
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(json).collect()),
        Yaml::Mapping(fields) => {
            let key = |key: Yaml| match json(key) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            Value::Object(fields.into_iter().map(|(name, value)| (key(name), json(value))).collect())
        }
        Yaml::Tagged(tagged) => json(tagged.value),
    }
}

/// Replaces `${…}` by what it refers to. One that refers to nothing here, or calls a resolver, stays as it is: if its field is
/// needed, its type is wrong, and the error shows it.
///
/// Source: `OmegaConf` 2.3, "Interpolations".
struct Resolver<'a> {
    root: &'a Value,
    copied: usize,
}

impl Resolver<'_> {
    /// `value` at `path`, the keys from the root.
    fn resolve(&mut self, value: &Value, path: &mut Vec<String>, depth: usize) -> Value {
        self.copied += 1;
        match value {
            // Beyond the bound nothing is copied any more.
            _ if self.copied > MOST_COPIED => Value::Null,
            Value::Object(fields) => {
                let mut resolved = Map::new();
                for (name, field) in fields {
                    path.push(name.clone());
                    resolved.insert(name.clone(), self.resolve(field, path, depth));
                    path.pop();
                }
                Value::Object(resolved)
            }
            Value::Array(items) => {
                let mut resolved = vec![];
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    resolved.push(self.resolve(item, path, depth));
                    path.pop();
                }
                Value::Array(resolved)
            }
            Value::String(text) if text.contains("${") && depth < DEEPEST => self.text(text, path, depth),
            other => other.clone(),
        }
    }

    /// A text with interpolations: one alone is replaced by the value, several by their text.
    fn text(&mut self, text: &str, path: &[String], depth: usize) -> Value {
        let mut parts: Vec<Value> = vec![];
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((reference, after)) = after.split_once('}') else { break };
            let Some(found) = self.refer(reference, path, depth) else { return Value::String(text.to_owned()) };
            parts.extend((!before.is_empty()).then(|| Value::String(before.to_owned())));
            parts.push(found);
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Value::String(rest.to_owned())));
        if let [only] = &mut parts[..] {
            return only.take();
        }
        let joined = parts.iter().map(|part| match part {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        Value::String(joined.collect())
    }

    /// What `reference` in the field at `path` refers to.
    fn refer(&mut self, reference: &str, path: &[String], depth: usize) -> Option<Value> {
        let dots = reference.bytes().take_while(|byte| *byte == b'.').count();
        // One dot: the mapping of the field itself; each further one: a level up.
        let mut at: Vec<String> = match dots {
            0 => vec![],
            _ => path[..path.len().checked_sub(dots)?].to_vec(),
        };
        let names = reference[dots..].split(['.', '[']).map(|name| name.trim_end_matches(']'));
        at.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
        let mut found = self.root;
        for name in &at {
            found = match found {
                Value::Object(fields) => fields.get(name)?,
                Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(self.resolve(found, &mut at, depth + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde_json::json;

    use super::*;

    fn read(yaml: &str) -> Result<Value, String> {
        parse(yaml)
    }

    #[test]
    fn interpolations_are_resolved_as_omegaconf_does() {
        let yaml = "rate: 32000\nname: tiny\nencodec:\n  rate: ${rate}\n  causal: false\n  twice: ${.rate}\nseanet:\n  \
                    causal: ${encodec.causal}\n  up: ${..encodec.twice}\n  label: m_${name}_${rate}\n  ratios: [2, 4]\n  \
                    first: ${seanet.ratios[0]}\n  nothing: null\nall: ${encodec}\n";
        let expected = json!({
            "rate": 32000, "name": "tiny", "encodec": {"rate": 32000, "causal": false, "twice": 32000},
            "seanet": {"causal": false, "up": 32000, "label": "m_tiny_32000", "ratios": [2, 4], "first": 2},
            "all": {"rate": 32000, "causal": false, "twice": 32000},
        });
        assert_eq!(read(yaml), Ok(expected));
    }

    #[test]
    fn what_refers_to_nothing_or_to_itself_stays_and_is_named_where_it_is_needed() {
        #[derive(Debug, serde::Deserialize)]
        struct Config {
            #[expect(dead_code, reason = "only whether it parses matters")]
            causal: bool,
        }
        for text in ["causal: ${no.where}", "causal: ${oc.env:HOME}", "causal: ${causal}", "causal: ${"] {
            let error = parse::<Config>(text).expect_err("not a boolean");
            assert!(error.contains("`causal`") && error.contains("${"), "{error}");
        }
    }

    #[test]
    fn nesting_and_copies_are_bounded() {
        for yaml in [
            format!("a: {}", "[".repeat(200_000)),
            format!("a: {}", "{a: ".repeat(200_000)),
            "- ".repeat(200_000),
            "? ".repeat(200_000),
            " ".repeat(LONGEST + 1),
        ] {
            assert!(read(&yaml).is_err_and(|error| error.contains("at most")), "{}", &yaml[..20]);
        }
        // Each level copies the one below it ten times.
        let mut yaml = "l0: x\n".to_owned();
        for level in 1..14 {
            let below = format!("\"${{l{}}}\", ", level - 1).repeat(10);
            writeln!(yaml, "l{level}: [{below}]").unwrap();
        }
        assert!(read(&yaml).is_ok());
    }
}
