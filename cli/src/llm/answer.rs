//! What a server sends back.

use serde_json::Value;

use super::client::{Answer, Tokens};
use tonoscope_hub::printable;

/// The message in the body of a completion, and what it took; the error is what is wrong with the body.
pub(super) fn parse(body: &str) -> Result<(Answer, Tokens), String> {
    let whole: Value = serde_json::from_str(body).map_err(|error| format!("its answer is not JSON ({error})"))?;
    let tokens = |name: &str| whole["usage"][name].as_u64().unwrap_or(0);
    let used = Tokens { prompt: tokens("prompt_tokens"), completion: tokens("completion_tokens") };
    let Some(choice) = whole["choices"].as_array().and_then(|choices| choices.first()) else {
        let message = error_message(body);
        let reports = if message.is_empty() { String::new() } else { format!(", it reports: {message}") };
        return Err(format!("its answer holds no choice{reports}"));
    };
    let message = &choice["message"];
    let text = match &message["content"] {
        Value::String(text) => text.clone(),
        // Some servers send the message in parts.
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    };
    let refusal = message["refusal"].as_str().filter(|text| !text.is_empty()).map(printable);
    let finish = choice["finish_reason"].as_str();
    let refusal = refusal.or_else(|| (finish == Some("content_filter")).then(|| "a filter of the server".to_owned()));
    if text.trim().is_empty() && refusal.is_none() {
        return Err("its answer is empty".to_owned());
    }
    Ok((Answer { text, cut: finish == Some("length"), refusal }, used))
}

/// What a server says of an error, on one line; nothing if it does not say it in a way that is known.
pub(super) fn error_message(body: &str) -> String {
    let Ok(whole) = serde_json::from_str::<Value>(body) else { return String::new() };
    let places = [&whole["error"]["message"], &whole["error"], &whole["message"], &whole["detail"]];
    places.into_iter().find_map(Value::as_str).map(printable).unwrap_or_default()
}

/// Whether an error is about money: waiting does not help.
pub(super) fn is_about_credit(body: &str) -> bool {
    let Ok(whole) = serde_json::from_str::<Value>(body) else { return false };
    [&whole["error"]["code"], &whole["error"]["type"]].into_iter().any(|value| value == "insufficient_quota")
}
