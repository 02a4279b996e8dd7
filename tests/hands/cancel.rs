//! A cancelled call of a tool that runs programs, through the toolbox: it is given the time to end what it
//! started and to put right what that left.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::{Value, json};
use tillerman::tools::python::Interpreter;
use tillerman::tools::ran::describe;
use tillerman::tools::sandbox::{self, Limits, Tier};
use tillerman::tools::{Tool, ToolCard, ToolContext, ToolFault, ToolResult, Toolbox};

use crate::nobody::{left_to_nobody, say};
use crate::shell::programs;
use crate::told;

/// Whether a process runs whose command line holds these words.
fn runs(words: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(words))
}

/// Cancelled as soon as it prints; answers the result and what was printed.
async fn cancelled(toolbox: &Toolbox, tool: &str, arguments: &Value) -> (ToolResult, String) {
    let (seen, cancel) = (Arc::new(Mutex::new(String::new())), tokio_util::sync::CancellationToken::new());
    let (kept, stop) = (seen.clone(), cancel.clone());
    let context = ToolContext {
        cancel,
        on_output: Some(Arc::new(move |text: &str| {
            let mut kept = kept.lock().unwrap();
            kept.push_str(text);
            if kept.ends_with('\n') {
                stop.cancel();
            }
        })),
        ..ToolContext::default()
    };
    let result = toolbox.run(tool, arguments, &context).await;
    let seen = seen.lock().unwrap().clone();
    (result, seen)
}

/// Ended by the time the call came back; a moment for the system to clear its tables.
async fn gone(words: &str) {
    let began = Instant::now();
    while runs(words) {
        assert!(began.elapsed() < Duration::from_secs(60), "{words} still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_cancelled_program_is_ended_and_what_it_left_is_put_right() {
    let Some((dir, toolbox)) = programs(true) else { return };
    let root = dir.path().join("work");
    for (n, tool) in ["shell", "python"].into_iter().enumerate() {
        // Nobody else on this machine runs that.
        let mark = format!("mark-{}-{tool}", std::process::id());
        let arguments = match tool {
            "shell" => json!({"command": format!(
                "mkdir .git; (setsid sh -c 'sleep 600; : {mark}' >/dev/null 2>&1 &); echo begun; sleep 600"
            )}),
            _ => json!({"code": format!(
                "import os, subprocess, time\nos.mkdir('/workspace/.git')\n\
                 subprocess.Popen(['sh', '-c', 'sleep 600; : {mark}'], start_new_session=True)\n\
                 print('begun', flush=True)\ntime.sleep(600)"
            )}),
        };
        let (result, seen) = cancelled(&toolbox, tool, &arguments).await;
        assert_eq!((result.fault, seen.as_str()), (Some(ToolFault::Cancelled), "begun\n"), "{tool}");
        // Said by the tool itself after its processes were gone: it was not dropped in the middle.
        assert!(result.text.contains("was renamed"), "{tool}: {}", result.text);
        assert!(!root.join(".git").exists() && root.join(format!("git-made-in-sandbox-{}", n + 1)).exists());
        gone(&mark).await;
    }
}

/// Python in tier C, where no namespace ends with the call and the run directory is a real folder.
struct Weak {
    card: ToolCard,
    interpreter: Interpreter,
}

#[async_trait]
impl Tool for Weak {
    fn card(&self) -> &ToolCard {
        &self.card
    }

    fn sandbox(&self) -> Option<&str> {
        Some(Tier::C.name())
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> ToolResult {
        let code = arguments["text"].as_str().unwrap();
        let mut job = self.interpreter.job(env!("CARGO_BIN_EXE_tillerman").as_ref(), code, None);
        job.tier = Tier::C;
        job.limits = Limits { wall_ms: 300_000, ..Limits::default() };
        let outcome = sandbox::run(job.clone(), &context.cancel, context.on_output.clone()).await;
        describe(&outcome, &job.limits, "", |words| words.to_string())
    }
}

#[test]
fn a_cancelled_program_in_the_weakest_tier_leaves_no_process_and_no_folder() {
    let test = "cancel::a_cancelled_program_in_the_weakest_tier_leaves_no_process_and_no_folder";
    if left_to_nobody(test) {
        return;
    }
    let Ok(interpreter) = Interpreter::find() else { return say("SKIPPED, no python3") };
    let exe = env!("CARGO_BIN_EXE_tillerman").as_ref();
    let probe = sandbox::try_tier(exe, &interpreter, Tier::C, &sandbox::bwrap_program());
    if probe.tier.is_none() {
        return say(&format!("SKIPPED, no tier C: {} ({})", probe.reason, probe.remedy));
    }
    let card = told("weak", tillerman::tools::Effects::default(), "").card;
    let toolbox = Toolbox { tools: vec![Arc::new(Weak { card, interpreter })], refused: vec![] };
    let mark = format!("mark-{}-weak", std::process::id());
    // One in a session of its own fills the folder as long as it lives.
    let fills = format!("n=0; while :; do n=$((n+1)); true > file-$n; done; : {mark}");
    let code = format!(
        "import os, subprocess, time\n\
         null = subprocess.DEVNULL\n\
         subprocess.Popen(['sh', '-c', {fills:?}], start_new_session=True, stdout=null, stderr=null)\n\
         while not os.path.exists('file-1'): time.sleep(0.01)\n\
         print(os.getcwd(), flush=True)\ntime.sleep(600)"
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (result, seen) = cancelled(&toolbox, "weak", &json!({ "text": code })).await;
        assert_eq!(result.fault, Some(ToolFault::Cancelled), "{}", result.text);
        let folder = PathBuf::from(seen.trim());
        assert!(folder.is_absolute() && folder.parent().is_some(), "{seen:?}");
        gone(&mark).await;
        assert!(!folder.exists(), "{} is left", folder.display());
    });
}
