//! `prompts generate` and `prompts annotate` with a language model that misbehaves in every way that is known of.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    command,
    llm_server::{FakeModel, Reply, a_prompt, annotated, completion},
    stderr, stdout,
};

/// Nobody else has this text, so that it can be looked for everywhere.
const KEY: &str = "sk-test-4f7a9c0de51b";

/// A folder, a model, and what was said so far.
struct Run {
    folder: tempfile::TempDir,
    model: FakeModel,
}

impl Run {
    fn new(model: FakeModel) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), model }
    }

    /// The same with `count` prompts to annotate.
    fn with_prompts(model: FakeModel, count: usize) -> Self {
        let run = Self::new(model);
        let lines: Vec<String> = (0..count).map(|index| format!("{}. {}  ", index + 1, a_prompt(index))).collect();
        fs::write(run.path("prompts.txt"), lines.join("\n")).unwrap();
        run
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let url = self.model.url();
        let rest = ["--base-url", &url, "--backoff", "0.01"];
        let mut command = command(&[&["prompts"][..], args, &rest].concat());
        command.current_dir(self.folder.path()).env("OPENAI_API_KEY", KEY).env("NO_PROXY", "127.0.0.1");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().unwrap();
        for text in [stdout(&output), stderr(&output)] {
            assert!(!text.contains(KEY) && !text.contains("panicked"), "{text}");
        }
        output
    }

    fn annotate(&self, args: &[&str]) -> Output {
        self.run(&[&["annotate", "prompts.txt", "--out", "annotations.json"][..], args].concat())
    }

    fn generate(&self, args: &[&str]) -> Output {
        self.run(&[&["generate", "--out", "prompts.txt"][..], args].concat())
    }

    fn annotations(&self) -> Vec<Value> {
        serde_json::from_slice(&fs::read(self.path("annotations.json")).unwrap()).unwrap()
    }

    fn requests(&self) -> usize {
        self.model.log().len()
    }

    /// All `count` prompts are annotated rightly, and the key is in no file.
    #[track_caller]
    fn assert_annotated(&self, count: usize) {
        let expected: Vec<Value> = (0..count).map(|index| annotated(&a_prompt(index))).collect();
        assert_eq!(self.annotations(), expected);
        assert_no_key(self.folder.path());
    }
}

#[track_caller]
fn assert_no_key(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_no_key(&path);
        } else {
            assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(KEY), "{}", path.display());
        }
    }
}

#[track_caller]
fn done(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

#[track_caller]
fn failed(output: &Output, status: i32, parts: &[&str]) {
    super::says(&(output.status.code().unwrap(), stderr(output)), status, parts);
}

fn changed(change: impl Fn(String) -> String + Send + 'static) -> Reply {
    Reply::Changed(Box::new(change))
}

/// The right answer with its list of annotations changed.
fn with_list(change: impl Fn(&mut Vec<Value>) + Send + 'static) -> Reply {
    changed(move |right| {
        let mut right: Value = serde_json::from_str(&right).unwrap();
        change(right["annotations"].as_array_mut().unwrap());
        right.to_string()
    })
}

#[test]
fn annotations_come_in_batches_with_a_schema_and_a_key() {
    let run = Run::with_prompts(FakeModel::start([]), 12);
    let output = run.annotate(&["--json"]);
    done(&output);
    run.assert_annotated(12);
    let log = run.model.log();
    assert_eq!(log.len(), 3);
    let body: Value = serde_json::from_slice(&log[2].body).unwrap();
    assert_eq!(log[0].headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(
        (body["model"].as_str(), &body["response_format"]["type"]),
        (Some("gpt-4.1-mini"), &"json_schema".into())
    );
    let items = &body["response_format"]["json_schema"]["schema"]["properties"]["annotations"]["items"];
    assert_eq!(items["properties"]["aspects"]["items"]["enum"].as_array().unwrap().len(), 25);
    assert!(body["messages"][1]["content"].as_str().unwrap().starts_with("1. A drum piece called number 10"));
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&summary["annotated"], &summary["how"]["requests"]), (&12.into(), &3.into()));
    assert_eq!(summary["how"]["tokens"], serde_json::json!({"prompt": 30, "completion": 15}));
    // What is there is not asked for again.
    done(&run.annotate(&[]));
    assert_eq!(run.requests(), 3);
    failed(&run.annotate(&["--batch", "4"]), 2, &["`batch` is 5 there, 4 now", "--overwrite"]);
}

#[test]
fn failures_that_pass_are_waited_for() {
    let busy = r#"{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}"#.to_owned();
    let replies = [
        Reply::Status(429, "Retry-After: 1\r\n", busy),
        Reply::Status(500, "", "<html>oops</html>".to_owned()),
        Reply::Status(503, "", String::new()),
        Reply::Closed,
        Reply::Cut,
    ];
    let run = Run::with_prompts(FakeModel::start(replies), 5);
    let started = Instant::now();
    let output = run.annotate(&[]);
    done(&output);
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(stderr(&output).contains("status 429 (slow down); attempt 2 in 1."), "{}", stderr(&output));
    run.assert_annotated(5);
    assert_eq!(run.requests(), 6);
}

#[test]
fn bodies_that_are_no_answers_are_asked_for_again() {
    let replies =
        ["{\"choices\": [", "{\"choices\": []}", "null", "", "{\"choices\": [{\"message\": {\"content\": \"\"}}]}"];
    let model = FakeModel::start(replies.map(|body| Reply::Body(body.to_owned())));
    let run = Run::with_prompts(model, 5);
    done(&run.annotate(&[]));
    run.assert_annotated(5);
    assert_eq!(run.requests(), 6);
}

#[test]
fn slow_trickling_and_endless_answers_are_given_up_in_time() {
    let replies = [Reply::Late(Duration::from_secs(5)), Reply::Trickle, Reply::Huge];
    let run = Run::with_prompts(FakeModel::start(replies), 5);
    let started = Instant::now();
    let output = run.annotate(&["--timeout", "1"]);
    done(&output);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    let said = stderr(&output);
    assert!(said.matches("no whole answer within 1 s").count() == 2 && said.contains("longer than 4 MiB"), "{said}");
    run.assert_annotated(5);
}

#[test]
fn messages_are_understood_in_any_dress_and_order() {
    let replies = [
        changed(|right| format!("Of course! {{Here}} they are:\n```json\n{right}\n```\nAnything else?")),
        with_list(|list| list.reverse()),
        changed(|right| {
            let right: Value = serde_json::from_str(&right).unwrap();
            right["annotations"].as_array().unwrap().iter().map(|one| one.to_string() + "\n").collect()
        }),
    ];
    let run = Run::with_prompts(FakeModel::start(replies), 15);
    done(&run.annotate(&[]));
    run.assert_annotated(15);
    assert_eq!(run.requests(), 3);
}

#[test]
fn what_is_wrong_in_a_message_is_asked_about_again_and_nothing_else() {
    let replies = [
        // Half a message: three of five are whole.
        changed(|right| {
            let end = right
                .match_indices("{\"aspects\"")
                .nth(3)
                .map_or_else(|| right.match_indices("\"prompt\"").nth(3).unwrap().0, |(at, _)| at);
            right[..end].to_owned()
        }),
        // One is missing, one is of a prompt that nobody has asked about.
        with_list(|list| list[1]["prompt"] = "A prompt from nowhere.".into()),
        // One is doubled, and not the same.
        with_list(|list| {
            let mut other = list[0].clone();
            other["aspects"] = serde_json::json!(["vocal"]);
            list.push(other);
        }),
        // Right, at last.
        Reply::Late(Duration::ZERO),
    ];
    let run = Run::with_prompts(FakeModel::start(replies), 5);
    done(&run.annotate(&[]));
    run.assert_annotated(5);
    let asked: Vec<usize> = run.model.log().iter().map(|request| asked_about(&request.body).len()).collect();
    assert_eq!(asked, [5, 2, 1, 1]);
    let last: Value = serde_json::from_slice(&run.model.log()[3].body).unwrap();
    assert!(last["messages"][1]["content"].as_str().unwrap().contains("annotated more than once, and differently"));
}

/// The prompts in the body of a request.
fn asked_about(body: &[u8]) -> Vec<String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    let user = body["messages"][1]["content"].as_str().unwrap();
    user.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn invented_aspects_are_asked_about_once_and_then_left_out() {
    let invent = || with_list(|list| list[0]["aspects"].as_array_mut().unwrap().push("majestic".into()));
    let run = Run::with_prompts(FakeModel::start([invent(), invent()]), 5);
    let output = run.annotate(&[]);
    done(&output);
    run.assert_annotated(5);
    assert_eq!(run.requests(), 2);
    assert!(stderr(&output).contains("left out: `majestic` (1)"), "{}", stderr(&output));
    let corrected = Run::with_prompts(FakeModel::start([invent()]), 5);
    let output = corrected.annotate(&[]);
    corrected.assert_annotated(5);
    assert!(!stderr(&output).contains("majestic"));
}

#[test]
fn what_is_never_answered_rightly_is_told_and_the_rest_is_kept() {
    // Of the second batch prompt 7 is never there.
    let lacking = || with_list(|list| list.retain(|one| !one["prompt"].as_str().unwrap().contains("number 6 ")));
    let replies = std::iter::once(Reply::Late(Duration::ZERO)).chain((0..4).map(|_| lacking()));
    let run = Run::with_prompts(FakeModel::start(replies), 12);
    failed(
        &run.annotate(&[]),
        1,
        &["1 of 12 prompts are not annotated", "missing: 7", "7: not in the answer", "hint:"],
    );
    assert!(!run.path("annotations.json").exists());
    // The first batch, four times the second, the third.
    assert_eq!(run.requests(), 6);
    let partial = Run { folder: run.folder, model: FakeModel::start((0..5).map(|_| lacking())) };
    // Another address is another run, so the model must be the same one.
    failed(&partial.annotate(&["--partial"]), 2, &["base_url"]);
    let output = partial.annotate(&["--partial", "--overwrite", "--json"]);
    done(&output);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((partial.annotations().len(), &summary["missing"][0]["number"]), (11, &7.into()));
    assert!(stderr(&output).contains("missing: 7"), "{}", stderr(&output));
}

#[test]
fn refusals_are_told_in_the_words_of_the_model() {
    let refusal = || {
        Reply::Body(
            r#"{"choices": [{"message": {"content": null, "refusal": "I do not like this music."}}]}"#.to_owned(),
        )
    };
    let run = Run::with_prompts(FakeModel::start((0..4).map(|_| refusal())), 3);
    failed(
        &run.annotate(&[]),
        1,
        &["3 of 3 prompts", "missing: 1-3", "the model refuses to answer: I do not like this music."],
    );
}

#[test]
fn a_budget_counts_repetitions_and_the_next_run_goes_on() {
    let replies = [Reply::Late(Duration::ZERO), Reply::Status(500, "", String::new())];
    let run = Run::with_prompts(FakeModel::start(replies), 15);
    let output = run.annotate(&["--max-requests", "2", "--json"]);
    failed(&output, 1, &["10 of 15", "the budget of 2 requests is used up", "missing: 6-15", "--max-requests"]);
    let summary: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&summary["annotated"], &summary["out"]), (&5.into(), &Value::Null));
    assert_eq!(summary["missing"][0]["number"], 6);
    assert_eq!(run.requests(), 2);
    done(&run.annotate(&["--max-requests", "2"]));
    run.assert_annotated(15);
    assert_eq!(run.requests(), 4);
}

#[test]
fn servers_without_schemas_are_asked_without() {
    let run = Run::with_prompts(FakeModel::start([]).rejecting_schemas(), 10);
    let output = run.annotate(&[]);
    done(&output);
    run.assert_annotated(10);
    let with_schema =
        |request: &tonoscope_tests::server::Request| String::from_utf8_lossy(&request.body).contains("response_format");
    assert_eq!(run.model.log().iter().map(with_schema).collect::<Vec<_>>(), [true, false, false]);
    assert!(stderr(&output).contains("takes no JSON schema"));
}

#[test]
fn a_batch_that_is_refused_costs_the_others_nothing() {
    let refuse = || Reply::Status(400, "", r#"{"error": {"message": "flagged"}}"#.to_owned());
    let run = Run::with_prompts(FakeModel::start([refuse(), refuse()]), 10);
    failed(
        &run.annotate(&[]),
        1,
        &["5 of 10", "missing: 1-5", "3: the server refuses the request with status 400: flagged"],
    );
    let log = run.model.log();
    assert!(log.len() == 3 && String::from_utf8_lossy(&log[2].body).contains("response_format"));
    done(&run.annotate(&[]));
    run.assert_annotated(10);
    assert_eq!(run.requests(), 4);
}

#[test]
fn a_server_that_is_down_is_given_up_after_a_few_batches() {
    let run = Run::with_prompts(FakeModel::start((0..100).map(|_| Reply::Status(502, "", String::new()))), 50);
    failed(
        &run.annotate(&["--retries", "1"]),
        1,
        &["50 of 50", "no usable answer after 2 requests", "status 502", "missing: 1-50"],
    );
    assert_eq!(run.requests(), 6);
}

#[test]
fn failures_that_do_not_pass_end_it_at_once() {
    let echo = format!(r#"{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}"#);
    let quota = r#"{"error": {"message": "pay", "code": "insufficient_quota"}}"#.to_owned();
    let missing = format!(r#"{{"error": {{"message": "no model for {KEY}"}}}}"#);
    let cases = [
        (Reply::Status(401, "", echo), "does not let us in, status 401", "OPENAI_API_KEY"),
        (Reply::Status(429, "", quota), "no credit left", ""),
        (Reply::Status(404, "", missing), "knows no model `gpt-4.1-mini`: no model for …", "--base-url"),
        (
            Reply::Status(307, "Location: http://example.org/v1\r\n", String::new()),
            "hands over to another address",
            "trust",
        ),
    ];
    for (reply, message, hint) in cases {
        let run = Run::with_prompts(FakeModel::start([reply]), 20);
        failed(&run.annotate(&[]), 1, &[message, "missing: 1-20", hint]);
        assert_eq!(run.requests(), 1);
        assert_eq!(fs::read_dir(run.folder.path()).unwrap().count(), 1);
        assert_no_key(run.folder.path());
    }
}

#[test]
fn redirects_do_not_carry_the_key_away() {
    let thief = FakeModel::start([]);
    let location: &'static str = format!("Location: {}/chat/completions\r\n", thief.url()).leak();
    for status in [301, 302, 303, 307, 308] {
        let run = Run::with_prompts(FakeModel::start([Reply::Status(status, location, String::new())]), 5);
        failed(&run.annotate(&[]), 1, &["hands over to another address"]);
    }
    assert!(thief.log().is_empty());
}

#[test]
fn a_key_that_the_server_repeats_is_shown_and_kept_nowhere() {
    let escaped: String = KEY.chars().map(|c| "\\u".to_owned() + &format!("{:04x}", c as u32)).collect();
    let replies = [
        with_list(|list| {
            list[0]["aspects"] = serde_json::json!(["drum", format!("Bearer {KEY}")]);
            list[1]["bpm"] = KEY.into();
        }),
        Reply::Body(completion(&format!("{{\"prompt\": \"x\", \"aspects\": [\"{escaped}\"]}}"))),
        Reply::Body(format!(r#"{{"choices": [{{"message": {{"refusal": "{escaped}"}}}}]}}"#)),
        Reply::Status(500, "", format!(r#"{{"error": "{escaped}"}}"#)),
    ];
    let run = Run::with_prompts(FakeModel::start(replies), 5);
    done(&run.annotate(&["--json"]));
    run.assert_annotated(5);
    let writing = Run::new(FakeModel::start([Reply::Message(format!("[\"A song about {escaped} and love.\"]"))]));
    done(&writing.generate(&["--count", "3"]));
    assert_no_key(writing.folder.path());
    assert!(fs::read_to_string(writing.path("prompts.txt")).unwrap().contains("A song about … and love."));
}

#[test]
fn a_key_goes_over_no_open_connection_and_an_address_holds_no_password() {
    let run = Run::with_prompts(FakeModel::start([]), 5);
    let refused = |args: &[&str], status, parts: &[&str]| {
        let line = [&["prompts", "annotate", "prompts.txt", "--out", "a.json"][..], args].concat();
        let output = command(&line).current_dir(run.folder.path()).env("OPENAI_API_KEY", KEY).output().unwrap();
        failed(&output, status, parts);
        assert!(!stderr(&output).contains(KEY));
    };
    refused(&["--base-url", "http://models.example.org/v1"], 2, &["not protected", "--insecure"]);
    refused(&["--base-url", "https://me:secret@models.example.org/v1"], 2, &["user name or a password"]);
    refused(&["--base-url", "models"], 2, &["--base-url", "hint:"]);
    assert!(!run.path("a.json.parts").exists() && run.requests() == 0);
}

#[test]
fn prompts_are_written_in_numbered_blocks() {
    let run = Run::new(FakeModel::start([]));
    done(&run.generate(&["--count", "10", "--per-request", "4", "--seed", "5"]));
    let text = fs::read_to_string(run.path("prompts.txt")).unwrap();
    let numbers = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2];
    let expected: String =
        numbers.iter().enumerate().map(|(index, number)| number.to_string() + ". " + &a_prompt(index) + "\n").collect();
    assert_eq!(text, expected);
    let seeds: Vec<Value> = run
        .model
        .log()
        .iter()
        .map(|request| serde_json::from_slice::<Value>(&request.body).unwrap()["seed"].clone())
        .collect();
    assert_eq!(seeds, [5, 6, 7]);
    // What was generated can be annotated.
    done(&run.annotate(&[]));
    run.assert_annotated(10);
}

#[test]
fn doubled_short_and_unusable_prompts_are_asked_for_again() {
    let replies = [
        Reply::Message("1. A calm song for harp at 60 BPM.\n2. a calm SONG for harp, at 60 BPM\n3. Hm.\n".to_owned()),
        Reply::Message("[\"A calm song for harp at 60 BPM\", \"Another calm song for harp at 60 BPM\"]".to_owned()),
    ];
    let run = Run::new(FakeModel::start(replies));
    done(&run.generate(&["--count", "6", "--per-request", "4"]));
    let text = fs::read_to_string(run.path("prompts.txt")).unwrap();
    let different: BTreeSet<&str> = text.lines().map(|line| line.split_once(". ").unwrap().1).collect();
    assert_eq!((text.lines().count(), different.len()), (6, 6));
    assert!(
        text.starts_with("1. A calm song for harp at 60 BPM.\n2. Another calm song for harp at 60 BPM\n3. "),
        "{text}"
    );
    let users: Vec<String> =
        run.model.log().iter().map(|request| String::from_utf8_lossy(&request.body).into_owned()).collect();
    let asked: Vec<bool> = ["Write 4 ", "Write 3 ", "Write 2 ", "Write 2 "]
        .iter()
        .zip(&users)
        .map(|(part, user)| user.contains(part))
        .collect();
    assert_eq!((asked, users.len()), (vec![true; 4], 4));
    assert!(users[1].contains("These are written already") && !users[0].contains("These are written already"));
}

#[test]
fn a_model_that_repeats_itself_ends_in_a_list_of_what_is_missing() {
    let run = Run::new(FakeModel::start((0..6).map(|_| Reply::Message("[\"The same old song again.\"]".to_owned()))));
    let output = run.generate(&["--count", "5"]);
    failed(&output, 1, &["4 of 5 prompts are not written", "missing: 2-5", "0 new prompts, 1 that there were already"]);
    assert!(!run.path("prompts.txt").exists());
    done(&run.generate(&["--count", "5"]));
    assert!(fs::read_to_string(run.path("prompts.txt")).unwrap().starts_with("1. The same old song again.\n"));
    let budget = Run::new(FakeModel::start([]));
    let output = budget.generate(&["--count", "8", "--per-request", "4", "--max-requests", "1", "--partial"]);
    done(&output);
    assert_eq!(fs::read_to_string(budget.path("prompts.txt")).unwrap().lines().count(), 4);
    assert!(stderr(&output).contains("missing: 5-8"), "{}", stderr(&output));
}

#[test]
fn a_dry_run_sends_nothing_and_shows_no_key() {
    let run = Run::with_prompts(FakeModel::start([]), 12);
    let output = run.annotate(&["--dry-run", "--json"]);
    done(&output);
    let shown: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((shown["requests"].as_array().unwrap().len(), &shown["estimate"]["requests"]), (3, &3.into()));
    assert!(shown["estimate"]["tokens"]["prompt"].as_u64().unwrap() > 300, "{shown}");
    let text = stdout(&run.generate(&["--dry-run"]));
    assert!(
        text.starts_with("POST http://127.0.0.1:") && text.contains("4 requests") && text.contains("3 more"),
        "{text}"
    );
    assert_eq!(run.requests(), 0);
    assert_eq!(fs::read_dir(run.folder.path()).unwrap().count(), 1);
}

#[test]
fn a_run_that_is_killed_goes_on_without_asking_again() {
    let run = Run::with_prompts(FakeModel::start([]).slow(Duration::from_millis(150)), 30);
    let args = ["annotate", "prompts.txt", "--out", "annotations.json"];
    let mut kills = 0;
    for _ in 0..20 {
        let mut process = run.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        if process.try_wait().unwrap().is_some() {
            break;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        kills += 1;
    }
    done(&run.run(&args));
    run.assert_annotated(30);
    // Each kill costs the request that was under way, and no more.
    assert!(kills >= 1 && run.requests() <= 6 + kills, "{} requests, {kills} kills", run.requests());
}
