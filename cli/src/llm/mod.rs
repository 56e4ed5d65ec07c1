//! Questions to a language model, through any server that speaks OpenAI's chat completions.
//!
//! Reading order: [`args`](LlmArgs) (which server, and whether any), [`client`](Client) (a question until it is answered:
//! repetitions, their pauses, the budget), `answer` (what came back), `draft` (what a reasoning model writes before it), [`json`](json_values) (JSON among whatever stands around
//! it). The key is in the header of a request and nowhere else: an answer that repeats it is cleaned before anybody sees it.
//!
//! Reference: OpenAI's API reference, "Create chat completion", as of 2025: the fields that are sent are `model`, `messages`,
//! `response_format` and `seed`.

mod answer;
mod args;
mod client;
mod draft;
mod error;
#[cfg(test)]
mod fuzz;
mod json;
#[cfg(test)]
mod tests;

pub(crate) use args::{LlmArgs, Settings, Source};
pub(crate) use client::{Answer, Client, Question, Tokens, request_body};
pub(crate) use error::LlmError;
pub(crate) use json::json_values;
