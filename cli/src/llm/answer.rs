//! What a server sends back.

use serde_json::Value;

use super::{
    client::{Answer, Tokens},
    draft::without_draft,
};
use tonoscope_hub::printable;

/// The message in the body of a completion, and what it took; the error is what is wrong with the body. `hide` takes secrets
/// out of a text: it comes before all cutting.
pub(super) fn parse(body: &str, hide: &dyn Fn(&str) -> String) -> Result<(Answer, Tokens), String> {
    let whole: Value = serde_json::from_str(body).map_err(|error| format!("its answer is not JSON ({error})"))?;
    let tokens = |name: &str| whole["usage"][name].as_u64().unwrap_or(0);
    let used = Tokens { prompt: tokens("prompt_tokens"), completion: tokens("completion_tokens") };
    let Some(choice) = whole["choices"].as_array().and_then(|choices| choices.first()) else {
        let message = error_message(body, hide);
        let reports = if message.is_empty() { String::new() } else { format!(", it reports: {message}") };
        return Err(format!("its answer holds no choice{reports}"));
    };
    let message = &choice["message"];
    let said = match &message["content"] {
        Value::String(text) => text.clone(),
        // Some servers send the message in parts.
        Value::Array(parts) => {
            parts.iter().filter(|part| is_text(part)).filter_map(|part| part["text"].as_str()).collect()
        }
        _ => String::new(),
    };
    let text = hide(without_draft(&said));
    let refusal = message["refusal"].as_str().filter(|text| !text.is_empty()).map(|text| printable(&hide(text)));
    let finish = choice["finish_reason"].as_str();
    let refusal = refusal.or_else(|| (finish == Some("content_filter")).then(|| "a filter of the server".to_owned()));
    if text.trim().is_empty() && refusal.is_none() {
        let beside =
            ["reasoning_content", "reasoning"].iter().any(|name| message[name].as_str().is_some_and(has_words));
        return Err(if beside || has_words(&said) {
            "nothing follows its reasoning: allow longer answers, or switch the reasoning off".to_owned()
        } else {
            "its answer is empty".to_owned()
        });
    }
    Ok((Answer { text, cut: finish == Some("length"), refusal }, used))
}

fn has_words(text: &str) -> bool {
    !text.trim().is_empty()
}

/// Whether a part of a message is the answer, and not what the model has thought.
fn is_text(part: &Value) -> bool {
    part["type"].as_str().is_none_or(|kind| matches!(kind, "text" | "output_text"))
}

/// What a server says of an error, on one line; nothing if it does not say it in a way that is known.
pub(super) fn error_message(body: &str, hide: &dyn Fn(&str) -> String) -> String {
    let Ok(whole) = serde_json::from_str::<Value>(body) else { return String::new() };
    let places = [&whole["error"]["message"], &whole["error"], &whole["message"], &whole["detail"]];
    places.into_iter().find_map(Value::as_str).map(|text| printable(&hide(text))).unwrap_or_default()
}

/// Whether an error is about money: waiting does not help.
pub(super) fn is_about_credit(body: &str) -> bool {
    let Ok(whole) = serde_json::from_str::<Value>(body) else { return false };
    [&whole["error"]["code"], &whole["error"]["type"]].into_iter().any(|value| value == "insufficient_quota")
}
