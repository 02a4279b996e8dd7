//! Engines elsewhere against a real HTTP server on this machine that speaks the chat API, well and badly.

#[path = "remote/attached.rs"]
mod attached;
#[path = "remote/judge.rs"]
mod judge;
#[path = "support/program.rs"]
mod program;
#[path = "remote/server.rs"]
mod server;
#[path = "remote/terms.rs"]
mod terms;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use program::{run, tillerman};
use serde_json::{Value, json};
use tillerman::config::Remote;
use tillerman::engine::remote::RemoteEngine;
use tillerman::engine::{
    Completion, Constraint, Engine, Message, OnPiece, Request, Role, Sampler, Speaker, StopReason,
};
use tillerman::error::{EngineError, RemoteFault};
use tokio_util::sync::CancellationToken;

use server::{Server, Step, chunk, done, stream, texts};

fn settings(server: &Server) -> Remote {
    Remote { url: server.url(), model: "m".into(), retries: 2, ..Remote::default() }
}

fn request(role: Role) -> Request {
    Request {
        role,
        messages: vec![
            Message::new(Speaker::System, ["Be brief."]),
            Message::new(Speaker::User, ["1", "+1?"]),
        ],
        sampler: Sampler::greedy(),
        constraint: None,
        max_tokens: 16,
    }
}

async fn ask(engine: &RemoteEngine, request: Request) -> (Result<Completion, EngineError>, String) {
    let seen = Arc::new(Mutex::new(String::new()));
    let sink = seen.clone();
    let on_piece: OnPiece = Arc::new(move |piece| sink.lock().unwrap().push_str(piece));
    let result = engine.complete(request, Some(on_piece), CancellationToken::new()).await;
    let seen = seen.lock().unwrap().clone();
    (result, seen)
}

fn fault(result: Result<Completion, EngineError>) -> RemoteFault {
    match result.unwrap_err() {
        EngineError::Remote { engine, fault } if engine == "box" => fault,
        other => panic!("another error: {other}"),
    }
}

#[tokio::test]
async fn a_stream_is_shown_as_it_comes_and_recorded_whole() {
    let server = Server::start(|_, _| stream(&["Zw", "ei ", "ist 2 — 二"]));
    let engine = RemoteEngine::new("box", settings(&server));
    let (result, seen) = ask(&engine, request(Role::Generator)).await;
    let completion = result.unwrap();
    assert_eq!((completion.text.as_str(), completion.stop), ("Zwei ist 2 — 二", Some(StopReason::EndOfTurn)));
    assert_eq!(seen, completion.text);
    let remote = completion.remote.clone().unwrap();
    assert_eq!((remote.engine.as_str(), remote.attempts, remote.untrainable), ("box", 1, None));
    assert_eq!((completion.sampled(), completion.context_used()), (3, 14));
    let sent = server.bodies();
    assert_eq!(sent[0]["messages"][1], json!({"role": "user", "content": "1+1?"}));
    assert_eq!((&sent[0]["model"], &sent[0]["max_tokens"]), (&json!("m"), &json!(16)));
    let info = engine.model().await.unwrap();
    assert_eq!((info.name.as_str(), info.context), ("m", 4096));
}

#[tokio::test]
async fn any_cut_of_the_bytes_gives_the_same_reply() {
    for size in [1, 2, 3, 7, 64] {
        let server = Server::start(move |_, _| {
            let mut steps = stream(&["Zw", "ei ", "ist 2 — 二"]);
            steps.insert(0, Step::PieceBytes(size));
            steps
        });
        let engine = RemoteEngine::new("box", settings(&server));
        let (result, seen) = ask(&engine, request(Role::Generator)).await;
        assert_eq!(
            (result.unwrap().text.as_str(), seen.as_str()),
            ("Zwei ist 2 — 二", "Zwei ist 2 — 二"),
            "{size}"
        );
    }
}

#[tokio::test]
async fn a_reply_that_is_not_streamed_is_taken_too() {
    let body = json!({"choices": [{"message": {"content": "whole"}, "finish_reason": "length"}]});
    let server = Server::start(move |_, _| vec![Step::Json(200, String::new(), body.to_string())]);
    let (result, seen) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
    assert_eq!((result.unwrap().stop, seen.as_str()), (Some(StopReason::Length), "whole"));
    let body = json!({"choices": [{"message": {"content": "whole"}, "finish_reason": "content_filter"}]});
    let server = Server::start(move |_, _| vec![Step::Json(200, String::new(), body.to_string())]);
    let (result, seen) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
    assert!(matches!(fault(result), RemoteFault::Unable(why) if why.contains("content filter")));
    assert_eq!(seen, "");
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let busy =
        || Step::Json(429, "Retry-After: 0\r\n".into(), "{\"error\":{\"message\":\"slow down\"}}".into());
    for first in [vec![busy()], vec![Step::Json(503, String::new(), "busy".into())], vec![Step::Close]] {
        let first = Mutex::new(Some(first));
        let server =
            Server::start(move |_, _| first.lock().unwrap().take().unwrap_or_else(|| stream(&["ok"])));
        let (result, seen) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
        assert_eq!((result.unwrap().remote.unwrap().attempts, seen.as_str()), (2, "ok"));
    }
}

#[tokio::test]
async fn trouble_that_lasts_ends_after_the_retries_with_its_reason() {
    let server = Server::start(|_, _| {
        vec![Step::Json(500, "Retry-After: 0\r\n".into(), "out of \u{1b}[31mmemory".into())]
    });
    let (result, _) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
    let told = result.as_ref().unwrap_err().to_string();
    assert!(told.contains("answered 500: out of memory") && told.contains("try again later"), "{told}");
    assert!(matches!(fault(result), RemoteFault::Refused { status: 500, .. }));
    assert_eq!(server.bodies().len(), 3, "one request and two retries");
    // Too long a wait is told, not waited for.
    let server = Server::start(|_, _| vec![Step::Json(429, "Retry-After: 3600\r\n".into(), "{}".into())]);
    let (result, _) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
    assert!(result.unwrap_err().to_string().contains("asks to wait 3600 s"));
    assert_eq!(server.bodies().len(), 1);
}

#[tokio::test]
async fn silence_before_and_between_tokens_is_told_apart() {
    let limits = |server: &Server| Remote { first_token_s: 1, idle_s: 1, ..settings(server) };
    // Keep-alive comments are no token.
    let server = Server::start(|_, _| vec![Step::Head, Step::Raw(": ping\n\n".into()), Step::Hang]);
    let (result, _) = ask(&RemoteEngine::new("box", limits(&server)), request(Role::Base)).await;
    assert!(matches!(fault(result), RemoteFault::Silent { setting, .. } if setting == "first_token_s"));
    for (first, step, setting) in [
        (None, Step::Pings, "first_token_s"),
        (Some(chunk("half")), Step::Hang, "idle_s"),
        (Some(chunk("half")), Step::Pings, "idle_s"),
    ] {
        let (seen, steps) =
            (if first.is_some() { "half" } else { "" }, [Step::Head].into_iter().chain(first).chain([step]));
        let steps: Vec<Step> = steps.collect();
        let server = Server::start(move |_, _| steps.clone());
        let (result, shown) = ask(&RemoteEngine::new("box", limits(&server)), request(Role::Base)).await;
        let fault = fault(result);
        assert!(matches!(&fault, RemoteFault::Silent { setting: named, .. } if named == setting), "{fault}");
        assert_eq!((shown.as_str(), server.bodies().len()), (seen, 1), "never asked again");
    }
}

#[tokio::test]
async fn a_cut_is_retried_before_the_first_token_and_never_after() {
    let server = Server::start(|_, _| vec![Step::Head, chunk("half"), Step::Close]);
    let (result, seen) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
    assert!(matches!(fault(result), RemoteFault::Cut { .. }));
    assert_eq!((seen.as_str(), server.bodies().len()), ("half", 1));
    let server = Server::start(|_, _| vec![Step::Head, Step::Close]);
    let one = Remote { retries: 1, ..settings(&server) };
    let (result, _) = ask(&RemoteEngine::new("box", one), request(Role::Base)).await;
    assert!(matches!(fault(result), RemoteFault::Cut { .. }));
    assert_eq!(server.bodies().len(), 2);
}

#[tokio::test]
async fn nonsense_and_errors_inside_a_stream_are_named() {
    for (line, part) in [
        ("data: {\"choices\": [oops\n\n", "chat API does not know"),
        ("data: {\"error\":{\"message\":\"kv cache full\",\"code\":400}}\n\n", "answered 400: kv cache full"),
    ] {
        let server = Server::start(move |_, _| vec![Step::Head, Step::Raw(line.into()), Step::Hang]);
        let (result, _) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
        let told = result.unwrap_err().to_string();
        assert!(told.contains(part), "{told}");
        assert_eq!(server.bodies().len(), 1);
    }
    let server = Server::start(|_, _| vec![Step::Json(200, String::new(), "<html>hello</html>".into())]);
    let (result, _) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
    assert!(matches!(fault(result), RemoteFault::Garbled { .. }));
}

#[tokio::test]
async fn a_cancel_ends_the_wait_and_the_connection() {
    let server = Server::start(|_, _| vec![Step::Head, chunk("half"), Step::Hang]);
    let engine = RemoteEngine::new("box", settings(&server));
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let on_piece: OnPiece = Arc::new(move |_| stop.cancel());
    let result = engine.complete(request(Role::Base), Some(on_piece), cancel).await;
    assert_eq!(result.unwrap_err(), EngineError::Cancelled);
    server.wait("the server sees the connection end", || server.hung_up() > 0).await;
}

#[tokio::test]
async fn the_key_goes_to_the_endpoint_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    std::fs::write(&path, "sk-hush-0123456789\n").unwrap();
    set_mode(&path, 0o600);
    let server = Server::start(|_, head| {
        let key =
            head.split("uthorization: Bearer ").nth(1).unwrap_or("none").lines().next().unwrap_or_default();
        let body = json!({"error": {"message": format!("Incorrect API key provided: {key}")}});
        vec![Step::Json(401, String::new(), body.to_string())]
    });
    let keyed = Remote { key_file: path.clone(), ..settings(&server) };
    let (result, _) = ask(&RemoteEngine::new("box", keyed.clone()), request(Role::Base)).await;
    let error = result.unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(told.contains("Incorrect API key provided: [key]") && told.contains("check the key"), "{told}");
    assert!(!told.contains("hush"), "{told}");
    assert!(server.heads()[0].contains("Bearer sk-hush-0123456789"));
    // Readable by others, or not there: nothing is sent at all.
    set_mode(&path, 0o644);
    let absent = Remote { key_env: "TILLERMAN_TEST_NO_KEY".into(), ..settings(&server) };
    for (settings, part) in [(keyed, "chmod 600"), (absent, "TILLERMAN_TEST_NO_KEY is not set")] {
        let before = server.heads().len();
        let (result, _) = ask(&RemoteEngine::new("box", settings), request(Role::Base)).await;
        let told = result.unwrap_err().to_string();
        assert!(told.contains(part), "{told}");
        assert_eq!(server.heads().len(), before);
    }
}

#[tokio::test]
async fn over_http_a_key_goes_to_this_machine_or_where_the_settings_say() {
    let key_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(key_file.path(), "sk-hush-9876543210\n").unwrap();
    let server = Server::start(|_, _| stream(&["ok"]));
    // It leads here and is not one of the addresses that always do.
    let url = server.url().replace("127.0.0.1", "0.0.0.0");
    let away = Remote { url, key_file: key_file.path().into(), ..settings(&server) };
    let (result, _) = ask(&RemoteEngine::new("box", away.clone()), request(Role::Base)).await;
    let told = result.unwrap_err().to_string();
    assert!(told.contains("remote engine box") && told.contains("set key_over_http = true"), "{told}");
    assert_eq!(server.heads().len(), 0);
    let said = Remote { key_over_http: true, ..away };
    assert_eq!(ask(&RemoteEngine::new("box", said), request(Role::Base)).await.1, "ok");
    assert!(server.heads()[0].contains("Bearer sk-hush-9876543210"));
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_redirect_is_refused_and_its_target_never_asked() {
    let elsewhere = Server::start(|_, _| stream(&["stolen"]));
    let place = format!("Location: {}/chat/completions\r\n", elsewhere.url());
    let server = Server::start(move |_, _| vec![Step::Json(307, place.clone(), String::new())]);
    let (result, _) = ask(&RemoteEngine::new("box", settings(&server)), request(Role::Base)).await;
    assert!(matches!(fault(result), RemoteFault::Refused { status: 307, .. }));
    assert_eq!(elsewhere.heads().len(), 0);
}

#[tokio::test]
async fn what_an_endpoint_refuses_is_left_out_and_the_record_says_so() {
    let server = Server::start(|body, _| {
        let strange = ["return_token_ids", "return_tokens_as_token_ids", "logprobs", "response_format"];
        match strange.into_iter().find(|name| body.get(*name).is_some()) {
            Some(name) => {
                let why = format!("Unrecognized request argument supplied: {name}");
                vec![Step::Json(400, String::new(), json!({"error": {"message": why}}).to_string())]
            }
            None => stream(&["Sure! ```json\n", "{\"x\": 1}", "\n```"]),
        }
    });
    let engine = RemoteEngine::new("box", settings(&server));
    let schema = json!({"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]});
    let held =
        Request { constraint: Some(Constraint::JsonSchema(schema.to_string())), ..request(Role::Planner) };
    let (result, _) = ask(&engine, held.clone()).await;
    let completion = result.unwrap();
    assert_eq!(completion.text, "{\"x\": 1}", "what stands around the JSON is taken off");
    let remote = completion.remote.unwrap();
    assert!(!remote.constrained);
    assert_eq!(
        remote.left_out,
        ["logprobs", "response_format", "return_token_ids", "return_tokens_as_token_ids", "top_logprobs"]
    );
    assert!(remote.untrainable.unwrap().contains("no token ids"));
    let before = server.bodies().len();
    assert!(ask(&engine, held).await.0.is_ok());
    assert_eq!(server.bodies().len(), before + 1, "what was learned once is not tried again");
}

/// As vLLM answers with `return_token_ids`.
fn with_ids(_: &Value, _: &str) -> Vec<Step> {
    let piece = |text: &str, id: i32, finish: Value| {
        Step::Event(
            json!({"prompt_token_ids": [1, 2, 3], "choices": [{"index": 0, "delta": {"content": text},
                "token_ids": [id], "finish_reason": finish, "logprobs": {"content": [{"token": "t", "logprob": -0.5}]}}]})
            .to_string(),
        )
    };
    vec![Step::Head, piece("yes", 7, Value::Null), piece("", 2, json!("stop")), done()]
}

#[tokio::test]
async fn ids_and_logprobs_are_taken_and_what_lacks_them_is_marked() {
    let server = Server::start(with_ids);
    let engine = RemoteEngine::new("box", settings(&server));
    let warm = Request { sampler: Sampler::temperature(1.0, 5), ..request(Role::Planner) };
    let completion = ask(&engine, warm.clone()).await.0.unwrap();
    assert_eq!((completion.prompt_ids, completion.completion_ids), (vec![1, 2, 3], vec![7, 2]));
    assert_eq!((completion.logprobs, completion.forced), (vec![-0.5, -0.5], vec![false, false]));
    assert_eq!(completion.remote.unwrap().untrainable, None);
    assert_eq!(engine.untrainable(1.0).await.unwrap(), None);
    assert!(engine.untrainable(0.7).await.unwrap().unwrap().contains("temperature 1"));
    let cool = Request { sampler: Sampler::temperature(0.7, 5), ..warm };
    let completion = ask(&engine, cool).await.0.unwrap();
    assert_eq!(
        completion.logprobs,
        Vec::<f32>::new(),
        "log-probabilities of another temperature are not kept"
    );
    let bare = Server::start(|_, _| stream(&["yes"]));
    let why = RemoteEngine::new("box", settings(&bare)).untrainable(1.0).await.unwrap().unwrap();
    assert!(why.contains("no token ids"), "{why}");
}

/// Every role of the full prompts, played well enough for one turn.
fn roles(body: &Value, _: &str) -> Vec<Step> {
    let system = body["messages"][0]["content"].as_str().unwrap_or_default();
    let text = match () {
        () if system.contains("You are the planner") => "Context: none\nSub-goal: multiply\nTool: calculator",
        () if system.contains("You are the executor") => "{\"expression\": \"37*41+5\"}",
        () if system.contains("You are the verifier") => "{\"reason\": \"done\", \"decision\": \"stop\"}",
        () if system.contains("You are the analyst") => "Asks for a number.",
        () => "1522",
    };
    stream(&texts(text))
}

#[test]
fn a_machine_without_a_model_runs_every_role_elsewhere_and_learns_nowhere() {
    let server = Server::start(roles);
    let home = tempfile::tempdir().unwrap();
    let config = format!(
        "[engine]\nmodel = \"no-such.gguf\"\n[engine.remote.box]\nurl = \"{}\"\n[engine.roles]\ndefault = \"box\"\n",
        server.url()
    );
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let (code, out, err) = run(tillerman(home.path()).args(["ask", "--json", "What is 37*41+5?"]));
    assert_eq!(code, 0, "{err}");
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["model"]["name"], "served");
    assert_eq!(events[0]["model"]["remote"].as_array().unwrap().len(), 6);
    let planned = events.iter().find(|e| e["kind"] == "model_call" && e["role"] == "planner").unwrap();
    let why = planned["completion"]["remote"]["untrainable"].as_str().unwrap();
    assert!(why.contains("no token ids"), "{why}");
    assert_eq!(events.last().unwrap()["answer"], "1522");
    assert!(events.last().unwrap()["tokens"].as_u64().unwrap() > 0);

    let id = events[0]["trajectory"].as_str().unwrap();
    let (_, shown, _) = run(tillerman(home.path()).args(["show", id, "--json"]));
    assert_eq!(shown, out, "the record holds it all");
    for (args, part) in [
        (
            vec!["rollout", "What is 1+1?"],
            "rollouts of this planner cannot train: the endpoint returns no token ids",
        ),
        (vec!["train", "--labelled"], "the planner is the remote engine box"),
        (vec!["--adapter", "x", "ask", "q"], "takes no --adapter"),
    ] {
        let (code, _, err) = run(tillerman(home.path()).args(args));
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(part), "{err}");
    }
    let (_, out, _) = run(tillerman(home.path()).arg("doctor"));
    assert!(out.contains("box: served at 127.0.0.1") && out.contains("not trainable: the endpoint"), "{out}");
    let (_, out, _) = run(tillerman(home.path()).args(["doctor", "--network"]));
    assert!(out.starts_with("127.0.0.1:") && out.contains("remote engine box: analyst, planner"), "{out}");
}

#[test]
fn the_embedded_planner_works_with_a_generator_elsewhere() {
    let server = Server::start(roles);
    let home = tempfile::tempdir().unwrap();
    let config =
        format!("[engine.remote.box]\nurl = \"{}\"\n[engine.roles]\ngenerator = \"box\"\n", server.url());
    std::fs::write(home.path().join("config.toml"), config).unwrap();
    let asked = ["--seed", "1", "ask", "--json", "What is 37*41+5?"];
    let (code, out, err) = run(tillerman(home.path()).args(asked));
    assert_eq!(code, 0, "{err}");
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["pack"], "compact+full");
    for call in events.iter().filter(|event| event["kind"] == "model_call") {
        assert_eq!(
            call["completion"].get("remote").is_some(),
            call["role"] == "generator",
            "{}",
            call["role"]
        );
    }
    let sent = server.bodies();
    assert_eq!(sent.len(), 1, "only the generator's call left the machine");
    assert!(sent[0]["messages"][0]["content"].as_str().unwrap().len() > 200, "with the full prompt");
}
