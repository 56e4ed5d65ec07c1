//! A question until it is answered.

use std::{
    hash::{BuildHasher, Hasher},
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use serde_json::{Value, json};
use ureq::{
    Body,
    http::{Request, Response, header},
};

use super::{
    LlmError, Settings,
    answer::{error_message, is_about_credit, parse},
};
use tonoscope_hub::{agent, reason, text};

use crate::{interrupt, progress};

/// Longest answer that is read.
const LONGEST: u64 = 4 << 20;
/// The pause is doubled so often at most.
const MOST_DOUBLINGS: u32 = 6;
/// Longest pause that a server may ask for.
const LONGEST_PAUSE: Duration = Duration::from_mins(2);
/// How often to look whether the user wants to stop.
const POLL: Duration = Duration::from_millis(50);

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// What the model is to do.
    pub(crate) system: String,
    /// What it is to do it with.
    pub(crate) user: String,
    /// Name and JSON schema of the answer, for servers that can hold a model to one.
    pub(crate) schema: (&'static str, Value),
    /// For servers that make the same of the same.
    pub(crate) seed: Option<u64>,
}

/// What the model answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// It is longer than the server lets it be.
    pub(crate) cut: bool,
    /// Why it does not answer.
    pub(crate) refusal: Option<String>,
}

/// What answers took, as far as the server says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Tokens {
    pub(crate) prompt: u64,
    pub(crate) completion: u64,
}

/// Why a request has to be repeated, or cannot be.
enum Failure {
    /// It may go better next time, after so long at least.
    Passing(String, Option<Duration>),
    /// Perhaps the server knows no schemas.
    Schema,
    Lasting(LlmError),
}

/// Asks one server.
pub(crate) struct Client {
    agent: ureq::Agent,
    settings: Settings,
    sent: u64,
    used: Tokens,
    /// The server has rejected a schema: it is asked without one from then on.
    plain: bool,
}

/// The body of the request for `question`; `plain`: without its schema.
pub(crate) fn request_body(model: &str, question: &Question, plain: bool) -> Value {
    let mut body = json!({
        "model": model,
        "messages": [
            {"role": "system", "content": question.system},
            {"role": "user", "content": question.user},
        ],
    });
    if !plain {
        let (name, schema) = &question.schema;
        body["response_format"] =
            json!({"type": "json_schema", "json_schema": {"name": name, "strict": true, "schema": schema}});
    }
    if let Some(seed) = question.seed {
        body["seed"] = json!(seed);
    }
    body
}

impl Client {
    /// A client that has sent nothing yet.
    ///
    /// # Errors
    /// If the certificates that the environment names cannot be read.
    pub(crate) fn new(settings: Settings) -> Result<Self> {
        let agent = agent(settings.certificates.as_deref(), settings.timeout)?;
        Ok(Self { agent, settings, sent: 0, used: Tokens::default(), plain: false })
    }

    /// Requests that were sent, whatever came of them.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// What all answers took.
    pub(crate) fn used(&self) -> Tokens {
        self.used
    }

    /// Asks, and repeats it while it fails in ways that may pass.
    ///
    /// # Errors
    /// [`LlmError`], when it fails for good.
    pub(crate) fn ask(&mut self, question: &Question) -> Result<Answer, LlmError> {
        let (mut failures, mut dropped_schema) = (0, false);
        loop {
            match self.send(question) {
                Ok((answer, used)) => {
                    if dropped_schema {
                        progress::note("the server takes no JSON schema; it is asked without");
                    }
                    self.used.prompt += used.prompt;
                    self.used.completion += used.completion;
                    return Ok(answer);
                }
                Err(Failure::Schema) => {
                    self.plain = true;
                    dropped_schema = true;
                }
                Err(Failure::Passing(last, asked_for)) => {
                    failures += 1;
                    if failures > self.settings.retries {
                        return Err(LlmError::GaveUp { attempts: failures, last });
                    }
                    self.check_budget()?;
                    let wait = pause(self.settings.backoff, failures, asked_for, random_share());
                    let seconds = wait.as_secs_f64();
                    progress::note(&format!("{last}; attempt {} in {seconds:.1} s", failures + 1));
                    sleep(wait)?;
                }
                Err(Failure::Lasting(error)) => {
                    if dropped_schema {
                        // It was not about the schema.
                        self.plain = false;
                    }
                    return Err(error);
                }
            }
        }
    }

    fn check_budget(&self) -> Result<(), LlmError> {
        match self.settings.max_requests {
            Some(most) if self.sent >= most => Err(LlmError::Budget { sent: self.sent }),
            _ => Ok(()),
        }
    }

    fn send(&mut self, question: &Question) -> Result<(Answer, Tokens), Failure> {
        if interrupt::asked() {
            return Err(Failure::Lasting(LlmError::Interrupted));
        }
        self.check_budget().map_err(Failure::Lasting)?;
        let url = format!("{}/chat/completions", self.settings.base_url);
        let bad = |reason: String| Failure::Lasting(LlmError::Request { url: url.clone(), reason });
        let body = request_body(&self.settings.model, question, self.plain).to_string();
        let mut request = Request::post(&url)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(key) = &self.settings.key {
            request = request.header(header::AUTHORIZATION, key.bearer());
        }
        let request = request.body(body).map_err(|_| bad("not a URL".to_owned()))?;
        let proxy = self.settings.proxies.of(request.uri()).map_err(|error| bad(error.to_string()))?.cloned();
        // Also an answer that trickles in must come to an end.
        let request =
            self.agent.configure_request(request).timeout_global(Some(self.settings.timeout)).proxy(proxy).build();
        self.sent += 1;
        let response = self.agent.run(request).map_err(|error| self.network(error))?;
        let status = response.status().as_u16();
        let pause = retry_after(&response);
        if (300..400).contains(&status) {
            return Err(Failure::Lasting(LlmError::Redirect { url }));
        }
        let body = self.read(response);
        if (200..300).contains(&status) {
            return parse(&body?, &|text| self.hidden(text))
                .map_err(|what| Failure::Passing(self.hidden(&what), pause));
        }
        // An error is an error, whether or not its text can be read.
        Err(self.refusal(status, &body.unwrap_or_default(), pause, url))
    }

    /// The body as text.
    fn read(&self, mut response: Response<Body>) -> Result<String, Failure> {
        match response.body_mut().with_config().limit(LONGEST).read_to_vec() {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(ureq::Error::BodyExceedsLimit(_)) => {
                Err(Failure::Passing(format!("its answer is longer than {} MiB", LONGEST >> 20), None))
            }
            Err(error) => Err(self.network(error)),
        }
    }

    /// `text` without the key, for what was found behind escapes in a message.
    pub(crate) fn hidden(&self, text: &str) -> String {
        self.settings.key.as_ref().map_or_else(|| text.to_owned(), |key| key.hidden_in(text))
    }

    fn network(&self, error: ureq::Error) -> Failure {
        let seconds = self.settings.timeout.as_secs_f64();
        let through =
            self.settings.base_url.parse().map_or_else(|_| String::new(), |uri| self.settings.proxies.named(&uri));
        let what = match reason(error) {
            None => format!("no whole answer within {seconds} s{through}"),
            Some(reason) => format!("the connection fails: {}{through}", self.hidden(&reason)),
        };
        Failure::Passing(what, None)
    }

    /// What a status that is no success means.
    fn refusal(&self, status: u16, body: &str, pause: Option<Duration>, url: String) -> Failure {
        let message = error_message(body, &|text| self.hidden(text));
        match status {
            // Its message may hold the key in another form, such as its first and last letters.
            401 | 403 => Failure::Lasting(LlmError::Key { status, with_key: self.settings.key.is_some() }),
            402 => Failure::Lasting(LlmError::Credit),
            429 if is_about_credit(body) => Failure::Lasting(LlmError::Credit),
            408 | 409 | 425 | 429 | 500.. => {
                let detail = if message.is_empty() { String::new() } else { format!(" ({message})") };
                Failure::Passing(format!("the server answers with status {status}{detail}"), pause)
            }
            400 | 422 if !self.plain => Failure::Schema,
            404 => Failure::Lasting(LlmError::NotFound { url, model: self.settings.model.clone(), message }),
            _ => Failure::Lasting(LlmError::Refused { status, message }),
        }
    }
}

/// How long the server wants us to wait: milliseconds, seconds, or until a date.
fn retry_after(response: &Response<Body>) -> Option<Duration> {
    asked_pause(text(response, "retry-after-ms"), text(response, "retry-after"), SystemTime::now())
}

pub(super) fn asked_pause(milliseconds: Option<&str>, after: Option<&str>, now: SystemTime) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    // A date that has passed asks for no pause.
    let until = |text: &str| {
        let date = httpdate::parse_http_date(text.trim()).ok()?;
        Some(date.duration_since(now).unwrap_or_default().as_secs_f64())
    };
    let seconds = milliseconds.and_then(number).map(|number| number / 1000.0);
    let seconds = seconds.or_else(|| after.and_then(number)).or_else(|| after.and_then(until))?;
    Some(Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_PAUSE.as_secs_f64())))
}

/// How long to wait after `failures`: doubled each time, from half of that to all of it as `share` (0 to 1) says, so that
/// several clients do not come back at once; at least what the server asks for.
pub(super) fn pause(backoff: Duration, failures: u32, asked_for: Option<Duration>, share: f64) -> Duration {
    let full = backoff * (1 << (failures.max(1) - 1).min(MOST_DOUBLINGS));
    let jittered = full.mul_f64(0.5 + share / 2.0);
    jittered.max(asked_for.map_or(Duration::ZERO, |wait| wait.mul_f64(1.0 + share / 10.0)))
}

/// A number from 0 to 1 that is another in every process and at every call.
fn random_share() -> f64 {
    let hasher = std::hash::RandomState::new().build_hasher();
    (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Sleeps in short pieces, so that it can be stopped.
fn sleep(wait: Duration) -> Result<(), LlmError> {
    let started = Instant::now();
    loop {
        if interrupt::asked() {
            return Err(LlmError::Interrupted);
        }
        match wait.checked_sub(started.elapsed()) {
            Some(left) if !left.is_zero() => std::thread::sleep(left.min(POLL)),
            _ => return Ok(()),
        }
    }
}
