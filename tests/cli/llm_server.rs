//! A language model on 127.0.0.1 that knows its trade, and can be told to misbehave.

use std::{
    collections::VecDeque,
    io::Write,
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tonoscope_tests::server::{Request, head, serve};

/// What is done with one request.
pub(crate) enum Reply {
    /// A right answer, to which this is done before it is sent.
    Changed(Box<dyn Fn(String) -> String + Send>),
    /// This is the message.
    Message(String),
    /// This is the body of a completion.
    Body(String),
    /// Status, headers and body.
    Status(u16, &'static str, String),
    /// A right answer after a while.
    Late(Duration),
    /// A right answer, of which only the first half is sent.
    Cut,
    /// The connection is closed without a word.
    Closed,
    /// More than anybody wants to read.
    Huge,
    /// A right answer, a byte now and then.
    Trickle,
}

#[derive(Default)]
struct State {
    replies: VecDeque<Reply>,
    log: Vec<Request>,
    prompts: usize,
    rejects_schemas: bool,
    delay: Duration,
}

/// Replies in the order in which they are given, then right answers.
#[derive(Clone)]
pub(crate) struct FakeModel {
    address: String,
    state: Arc<Mutex<State>>,
}

impl FakeModel {
    pub(crate) fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        let state = State { replies: replies.into_iter().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let served = Self { address: String::new(), state: Arc::clone(&state) };
        Self { address: serve(move |request, stream| served.answer(request, stream)), state }
    }

    /// From now on requests with a schema get status 400.
    pub(crate) fn rejecting_schemas(self) -> Self {
        self.state.lock().unwrap().rejects_schemas = true;
        self
    }

    /// Every answer takes so long.
    pub(crate) fn slow(self, delay: Duration) -> Self {
        self.state.lock().unwrap().delay = delay;
        self
    }

    /// For `--base-url`.
    pub(crate) fn url(&self) -> String {
        format!("{}/v1", self.address)
    }

    pub(crate) fn log(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    fn answer(&self, request: &Request, stream: &mut TcpStream) -> std::io::Result<()> {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let (reply, right, delay) = {
            let mut state = self.state.lock().unwrap();
            state.log.push(request.clone());
            assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/chat/completions"));
            if state.rejects_schemas && body.get("response_format").is_some() {
                let text = r#"{"error": {"message": "Unknown parameter: 'response_format'."}}"#;
                return send(stream, 400, "", text.as_bytes());
            }
            let reply = state.replies.pop_front().unwrap_or(Reply::Late(Duration::ZERO));
            (reply, right_answer(&body, &mut state.prompts), state.delay)
        };
        std::thread::sleep(delay);
        match reply {
            Reply::Changed(change) => send(stream, 200, "", completion(&change(right)).as_bytes()),
            Reply::Message(text) => send(stream, 200, "", completion(&text).as_bytes()),
            Reply::Body(text) => send(stream, 200, "", text.as_bytes()),
            Reply::Status(status, headers, text) => send(stream, status, headers, text.as_bytes()),
            Reply::Late(delay) => {
                std::thread::sleep(delay);
                send(stream, 200, "", completion(&right).as_bytes())
            }
            Reply::Cut => {
                let whole = completion(&right);
                head(stream, 200, "", whole.len())?;
                stream.write_all(&whole.as_bytes()[..whole.len() / 2])
            }
            Reply::Closed => Ok(()),
            Reply::Huge => {
                head(stream, 200, "", 1 << 40)?;
                let block = vec![b' '; 1 << 20];
                for _ in 0..64 {
                    stream.write_all(&block)?;
                }
                Ok(())
            }
            Reply::Trickle => {
                let whole = completion(&right);
                head(stream, 200, "", whole.len())?;
                for byte in whole.as_bytes() {
                    stream.write_all(&[*byte])?;
                    stream.flush()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(())
            }
        }
    }
}

fn send(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    head(stream, status, headers, body.len())?;
    stream.write_all(body)
}

/// A message as the body of a completion.
pub(crate) fn completion(message: &str) -> String {
    json!({
        "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": message}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    })
    .to_string()
}

/// What a good model answers: to `Write N prompts` as many that were never there, to numbered prompts their annotations.
fn right_answer(body: &Value, written: &mut usize) -> String {
    let user = body["messages"][1]["content"].as_str().unwrap();
    if let Some(rest) = user.strip_prefix("Write ") {
        let count: usize = rest.split(' ').next().unwrap().parse().unwrap();
        let prompts: Vec<String> = (*written..*written + count).map(a_prompt).collect();
        *written += count;
        return json!({"prompts": prompts}).to_string();
    }
    let texts = user.lines().take_while(|line| !line.is_empty()).map(|line| line.split_once(". ").unwrap().1);
    json!({"annotations": texts.map(annotated).collect::<Vec<_>>()}).to_string()
}

/// Prompt number `index` of those that the model writes.
pub(crate) fn a_prompt(index: usize) -> String {
    let instrument = ["flute", "organ", "drum", "guitar"][index % 4];
    format!("A {instrument} piece called number {index} at {} BPM.", 60 + index % 100)
}

/// The right annotation of such a prompt.
pub(crate) fn annotated(prompt: &str) -> Value {
    let aspects: Vec<&str> =
        ["drum", "flute", "guitar", "organ"].into_iter().filter(|aspect| prompt.contains(aspect)).collect();
    let bpm: Option<u64> = prompt.split(" BPM").next().unwrap().rsplit(' ').next().unwrap().parse().ok();
    json!({"prompt": prompt, "aspects": aspects, "bpm": bpm.unwrap_or(0)})
}
