//! Answers of servers, mutated.

use std::time::SystemTime;

use tonoscope_tests::fuzz::check;

use super::{
    answer::{error_message, is_about_credit, parse},
    client::asked_pause,
    draft::without_draft,
    json_values,
};

#[test]
fn answers() {
    let seeds = [
        r#"{"choices": [{"message": {"content": "<think>so</think>[\"one\", \"two\"]", "reasoning": "r"},
            "finish_reason": "stop"}], "usage": {"prompt_tokens": 7, "completion_tokens": 9}}"#,
        r#"{"choices": [{"message": {"content": [{"type": "text", "text": "{\"prompts\": [\"a\"]}"}], "refusal": ""},
            "finish_reason": "length"}]}"#,
        r#"{"error": {"message": "no money", "type": "insufficient_quota", "code": 7}}"#,
    ]
    .map(|text| text.as_bytes().to_vec());
    check("llm_answers", &seeds, |bytes| {
        let body = String::from_utf8_lossy(bytes);
        if let Ok((answer, _)) = parse(&body, &str::to_owned) {
            drop(json_values(&answer.text, &['{', '[']));
        }
        drop(error_message(&body, &str::to_owned));
        is_about_credit(&body);
    });
}

#[test]
fn texts_of_answers() {
    let seeds = [
        "Sure! {Here} it is:\n```json\n[{\"a\": 1}, {\"a\": [2, \"x\"]}]\n```\nEnjoy.",
        "<think>no [/think] yes</think> {\"all\": [{\"a\": ",
        "<|channel|>analysis<|message|>x<|channel|>final<|message|>[\"é\", \"鼓\"]",
    ]
    .map(|text| text.as_bytes().to_vec());
    check("llm_texts", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        drop(json_values(without_draft(&text), &['{', '[']));
        drop(json_values(&text, &['"']));
    });
}

#[test]
fn pauses() {
    let seeds = ["20", "Wed, 21 Oct 2015 07:28:00 GMT", "1500.5", "-1", "1e999"].map(|text| text.as_bytes().to_vec());
    check("llm_pauses", &seeds, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let now = SystemTime::UNIX_EPOCH;
        let _ = (asked_pause(Some(&text), None, now), asked_pause(None, Some(&text), now));
    });
}
