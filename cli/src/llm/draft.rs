//! What a reasoning model writes before its answer.
//!
//! Reference: the chat templates of DeepSeek-R1 and Qwen3 (`<think>`), Magistral (`[THINK]`), Seed-OSS (`<seed:think>`) and
//! gpt-oss (channels). Some templates open the tag themselves, so that an answer holds its end alone.

/// Names of the tags around a draft.
const TAGS: [&str; 7] = ["think", "thinking", "thought", "thoughts", "reasoning", "reflection", "seed:think"];
/// What begins the answer of a model with channels.
const FINAL: &str = "<|channel|>final<|message|>";
/// What begins a message in any channel.
const CHANNEL: &str = "<|channel|>";

/// What follows the last end of a draft in `text`; nothing where a draft begins and does not end.
pub(super) fn without_draft(text: &str) -> &str {
    // ASCII alone changes, so that places stay as they are.
    let lower = text.to_ascii_lowercase();
    let ends = TAGS.iter().flat_map(|tag| [format!("</{tag}>"), format!("[/{tag}]")]).chain([FINAL.to_owned()]);
    let end = ends.filter_map(|end| Some(lower.rfind(&end)? + end.len())).max().unwrap_or(0);
    let (answer, lower) = (&text[end..], &lower[end..]);
    let mut begins = TAGS.iter().flat_map(|tag| [format!("<{tag}>"), format!("[{tag}]")]).chain([CHANNEL.to_owned()]);
    if begins.any(|begin| lower.trim_start().starts_with(&begin)) { "" } else { answer }
}
