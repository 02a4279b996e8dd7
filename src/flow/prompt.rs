//! Prompt packs: template files filled into chat messages, part by part.
//!
//! Every placeholder and every memory entry becomes a part of its own. Parts are tokenised separately,
//! and in the planner's prompt all that varies between turns stands after the memory, so the prompt of
//! turn t+1 keeps that of turn t up to the end of its memory as its prefix, token for token.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::engine::{Message, Role, Speaker};
use crate::error::Error;
use crate::flow::memory::{Memory, MemoryEntry};
use crate::flow::refers::refers_back;
use crate::flow::trajectory::Decision;
use crate::tools::{ToolCard, Toolbox};

/// Settings of a pack, from its `pack.toml`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackSettings {
    pub name: String,
    /// Tool lists and cards in few words (`brief`) instead of whole cards.
    pub brief_cards: bool,
    /// Results and cards stand on one line; line ends become " / ".
    pub one_line: bool,
    /// The verifier's JSON names the reason before the decision.
    pub reason_first: bool,
    /// Characters of a result that enter memory; the flow's own limit still holds. 0: only that limit.
    pub result_chars: usize,
    /// The planner's sampling temperature unless the config says otherwise; the frozen roles are greedy.
    pub planner_temperature: f32,
    /// The same where a person asks and one plan is all there will be; left out: as above. Above 0, so that what was
    /// asked can be trained on once it is labelled.
    #[serde(default)]
    pub asked_temperature: Option<f32>,
    /// The generator's answers are passages of memory's results, or this sentence (see `flow::quote`); left out,
    /// they are what it likes.
    #[serde(default)]
    pub no_answer: Option<String>,
    /// Earlier queries and answers are shown only to a query that refers back to them.
    #[serde(default)]
    pub earlier_if_referred: bool,
    /// Most tokens sampled per call, by role name.
    pub max_tokens: BTreeMap<String, usize>,
}

/// Which slot of a template a value fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Tools,
    ToolCard,
    Query,
    Conversation,
    Analysis,
    Memory,
    TurnsLeft,
    Context,
    SubGoal,
    Tool,
    Command,
    Result,
    Verdict,
    Turn,
    Reference,
    Answer,
}

impl Slot {
    fn parse(name: &str) -> Option<Slot> {
        Some(match name {
            "tools" => Slot::Tools,
            "tool_card" => Slot::ToolCard,
            "query" => Slot::Query,
            "conversation" => Slot::Conversation,
            "analysis" => Slot::Analysis,
            "memory" => Slot::Memory,
            "turns_left" => Slot::TurnsLeft,
            "context" => Slot::Context,
            "sub_goal" => Slot::SubGoal,
            "tool" => Slot::Tool,
            "command" => Slot::Command,
            "result" => Slot::Result,
            "verdict" => Slot::Verdict,
            "turn" => Slot::Turn,
            "reference" => Slot::Reference,
            "answer" => Slot::Answer,
            _ => return None,
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Slot(Slot),
}

fn pieces(template: &str, file: &str) -> Result<Vec<Piece>, Error> {
    let mut found = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        let Some(len) = rest[start..].find("}}") else {
            return Err(Error::Config(format!("prompt {file}: a {{{{ without }}}}")));
        };
        let name = rest[start + 2..start + len].trim();
        let slot = Slot::parse(name)
            .ok_or_else(|| Error::Config(format!("prompt {file}: unknown placeholder {{{{{name}}}}}")))?;
        if start > 0 {
            found.push(Piece::Text(rest[..start].to_string()));
        }
        found.push(Piece::Slot(slot));
        rest = &rest[start + len + 2..];
    }
    if !rest.is_empty() {
        found.push(Piece::Text(rest.to_string()));
    }
    Ok(found)
}

#[derive(Clone, Debug)]
struct Template {
    system: Vec<Piece>,
    user: Vec<Piece>,
}

impl Template {
    fn parse(text: &str, file: &str) -> Result<Template, Error> {
        let missing = |part: &str| Error::Config(format!("prompt {file}: no line `# {part}`"));
        let after = text.strip_prefix("# system\n").ok_or_else(|| missing("system"))?;
        let (system, user) = after.split_once("\n# user\n").ok_or_else(|| missing("user"))?;
        Ok(Template {
            system: pieces(system.trim_end_matches('\n'), file)?,
            user: pieces(user.trim_end_matches('\n'), file)?,
        })
    }
}

/// A prompt pack: one template per role, the memory line and the settings.
#[derive(Clone, Debug)]
pub struct Pack {
    pub settings: PackSettings,
    roles: BTreeMap<&'static str, Template>,
    memory_entry: Vec<Piece>,
    /// Roles that another model serves, and the pack they speak with.
    elsewhere: Option<(Vec<Role>, Box<Pack>)>,
}

/// What fills the slots of one prompt; fields a template does not name are ignored.
#[derive(Clone, Copy, Default)]
pub struct Fill<'a> {
    pub toolbox: Option<&'a Toolbox>,
    pub card: Option<&'a ToolCard>,
    pub query: &'a str,
    pub conversation: &'a [(String, String)],
    pub analysis: &'a str,
    pub memory: Option<&'a Memory>,
    pub turns_left: usize,
    pub context: &'a str,
    pub sub_goal: &'a str,
    pub tool: &'a str,
    pub command: &'a str,
    pub result: &'a str,
    /// What a judge compares: the reference and the answer that was given.
    pub reference: &'a str,
    pub answer: &'a str,
}

impl Pack {
    /// Build a pack from its files: `pack.toml`, `memory.md` and one `<role>.md` per role.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn from_files(files: &BTreeMap<String, String>) -> Result<Pack, Error> {
        let get = |name: &str| {
            files.get(name).ok_or_else(|| Error::Config(format!("prompt pack: file {name} is missing")))
        };
        let settings: PackSettings =
            toml::from_str(get("pack.toml")?).map_err(|e| Error::Config(format!("prompt pack.toml: {e}")))?;
        let mut roles = BTreeMap::new();
        for role in Role::ALL {
            let file = format!("{}.md", role.name());
            roles.insert(role.name(), Template::parse(get(&file)?, &file)?);
        }
        let memory_entry = pieces(get("memory.md")?, "memory.md")?;
        Ok(Pack { settings, roles, memory_entry, elsewhere: None })
    }

    /// This pack, with `other` for some roles: a model elsewhere is not spoken to like the small one here.
    #[must_use]
    pub fn with_roles(mut self, other: Pack, roles: Vec<Role>) -> Pack {
        self.settings.name = format!("{}+{}", self.settings.name, other.settings.name);
        self.elsewhere = Some((roles, Box::new(other)));
        self
    }

    /// The pack a role speaks with.
    pub fn of(&self, role: Role) -> &Pack {
        match &self.elsewhere {
            Some((roles, other)) if roles.contains(&role) => other,
            _ => self,
        }
    }

    /// One of the bundled packs: `full` or `compact`.
    ///
    /// # Errors
    /// No pack of that name.
    pub fn bundled(name: &str) -> Result<Pack, Error> {
        macro_rules! files {
            ($pack:literal) => {
                [
                    ("pack.toml", include_str!(concat!("../../assets/prompts/", $pack, "/pack.toml"))),
                    ("memory.md", include_str!(concat!("../../assets/prompts/", $pack, "/memory.md"))),
                    ("analyst.md", include_str!(concat!("../../assets/prompts/", $pack, "/analyst.md"))),
                    ("planner.md", include_str!(concat!("../../assets/prompts/", $pack, "/planner.md"))),
                    ("executor.md", include_str!(concat!("../../assets/prompts/", $pack, "/executor.md"))),
                    ("verifier.md", include_str!(concat!("../../assets/prompts/", $pack, "/verifier.md"))),
                    ("generator.md", include_str!(concat!("../../assets/prompts/", $pack, "/generator.md"))),
                    ("base.md", include_str!(concat!("../../assets/prompts/", $pack, "/base.md"))),
                ]
            };
        }
        let files = match name {
            "full" => files!("full"),
            "compact" => files!("compact"),
            other => {
                return Err(Error::Config(format!(
                    "no prompt pack is called {other:?}; packs: full, compact"
                )));
            }
        };
        Pack::from_files(&files.into_iter().map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    pub fn max_tokens(&self, role: Role) -> usize {
        self.of(role).settings.max_tokens.get(role.name()).copied().unwrap_or(512)
    }

    /// The messages of one call: a system and a user message.
    pub fn messages(&self, role: Role, fill: &Fill) -> Vec<Message> {
        let pack = self.of(role);
        let template = &pack.roles[role.name()];
        vec![
            Message { speaker: Speaker::System, parts: pack.parts(&template.system, fill) },
            Message { speaker: Speaker::User, parts: pack.parts(&template.user, fill) },
        ]
    }

    /// The messages of a prompt file that stands beside the packs and is written like theirs.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn beside(&self, text: &str, file: &str, fill: &Fill) -> Result<Vec<Message>, Error> {
        let template = Template::parse(text, file)?;
        Ok(vec![
            Message { speaker: Speaker::System, parts: self.parts(&template.system, fill) },
            Message { speaker: Speaker::User, parts: self.parts(&template.user, fill) },
        ])
    }

    fn parts(&self, pieces: &[Piece], fill: &Fill) -> Vec<String> {
        let mut parts = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => parts.push(text.clone()),
                Piece::Slot(slot) => self.slot(*slot, fill, &mut parts),
            }
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    fn slot(&self, slot: Slot, fill: &Fill, parts: &mut Vec<String>) {
        match slot {
            Slot::Tools => {
                let Some(toolbox) = fill.toolbox else { return };
                let cards: Vec<String> =
                    toolbox.tools.iter().map(|tool| self.card_line(tool.card())).collect();
                parts.push(cards.join("\n"));
            }
            Slot::ToolCard => parts.extend(fill.card.map(|card| self.card_for_executor(card))),
            Slot::Query => parts.push(fill.query.to_string()),
            Slot::Conversation if self.settings.earlier_if_referred && !refers_back(fill.query) => {}
            Slot::Conversation => {
                parts.extend(fill.conversation.iter().map(|(q, a)| format!("Earlier: {q}\nAnswer: {a}\n")));
            }
            Slot::Analysis => parts.push(fill.analysis.to_string()),
            Slot::Memory => {
                let entries = fill.memory.map(|memory| memory.entries.as_slice()).unwrap_or_default();
                parts.extend(entries.iter().map(|entry| self.memory_line(entry)));
            }
            Slot::TurnsLeft => parts.push(fill.turns_left.to_string()),
            Slot::Context => parts.push(fill.context.to_string()),
            Slot::SubGoal => parts.push(fill.sub_goal.to_string()),
            Slot::Tool => parts.push(fill.tool.to_string()),
            Slot::Command => parts.push(fill.command.to_string()),
            Slot::Result => parts.push(self.flat(fill.result)),
            Slot::Reference => parts.push(fill.reference.to_string()),
            Slot::Answer => parts.push(fill.answer.to_string()),
            Slot::Verdict | Slot::Turn => {}
        }
    }

    /// One tool as the planner sees it.
    fn card_line(&self, card: &ToolCard) -> String {
        if self.settings.brief_cards {
            return format!("{}: {}", card.name, card.brief);
        }
        format!(
            "- {}: {} Arguments: {}. Limits: {}",
            card.name,
            card.purpose,
            card.schema,
            card.limits.join(" ")
        )
    }

    /// One tool as the executor sees it.
    fn card_for_executor(&self, card: &ToolCard) -> String {
        if self.settings.brief_cards {
            let keys: Vec<&str> = card.schema["properties"]
                .as_object()
                .map(|properties| properties.keys().map(String::as_str).collect())
                .unwrap_or_default();
            return format!("{} ({})", card.name, keys.join(", "));
        }
        let examples: Vec<String> =
            card.examples.iter().map(|e| format!("{} -> {}", e.arguments, e.result)).collect();
        format!(
            "{}: {}\nArguments (JSON schema): {}\nExamples:\n{}\nLimits: {}",
            card.name,
            card.purpose,
            card.schema,
            examples.join("\n"),
            card.limits.join(" ")
        )
    }

    /// A memory entry as every later prompt shows it; never changes once made.
    pub fn memory_line(&self, entry: &MemoryEntry) -> String {
        let verdict = match entry.verdict.decision {
            Decision::Stop => "stop",
            Decision::Continue => "continue",
        };
        let mut line = String::new();
        for piece in &self.memory_entry {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Slot(Slot::Turn) => line.push_str(&entry.turn.to_string()),
                Piece::Slot(Slot::SubGoal) => line.push_str(&entry.sub_goal),
                Piece::Slot(Slot::Tool) => line.push_str(&entry.tool),
                Piece::Slot(Slot::Command) => line.push_str(&entry.command.to_string()),
                Piece::Slot(Slot::Result) => line.push_str(&self.flat(&entry.result)),
                Piece::Slot(Slot::Verdict) => {
                    line.push_str(verdict);
                    if !self.settings.brief_cards && !entry.verdict.reason.is_empty() {
                        line.push_str(": ");
                        line.push_str(&entry.verdict.reason);
                    }
                }
                Piece::Slot(_) => {}
            }
        }
        line
    }

    /// A result as this pack shows it.
    pub fn flat(&self, text: &str) -> String {
        if self.settings.one_line {
            text.trim().replace("\r\n", "\n").replace('\n', " / ")
        } else {
            text.trim_end().to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::trajectory::Verdict;

    fn entry(turn: usize, result: &str) -> MemoryEntry {
        MemoryEntry {
            turn,
            sub_goal: format!("goal {turn}"),
            tool: "search".into(),
            command: serde_json::json!({"query": "q"}),
            result: result.into(),
            cut_chars: 0,
            error: false,
            verdict: Verdict { decision: Decision::Continue, reason: "not yet".into() },
            time_ms: 1.0,
        }
    }

    /// The user message's parts up to the end of its memory: all but the last part(s) after it.
    #[test]
    fn the_next_turns_prompt_keeps_this_ones_memory_as_prefix() {
        for name in ["full", "compact"] {
            let pack = Pack::bundled(name).unwrap();
            let mut memory = Memory::default();
            let parts = |memory: &Memory, turns_left: usize| {
                let fill = Fill {
                    query: "Who?",
                    analysis: "Asks for a name.",
                    memory: Some(memory),
                    turns_left,
                    ..Fill::default()
                };
                pack.messages(Role::Planner, &fill)
            };
            let mut before = parts(&memory, 10);
            for turn in 1..5 {
                memory.entries.push(entry(turn, "two\nlines {{memory}}"));
                let after = parts(&memory, 10 - turn);
                assert_eq!(before[0], after[0], "{name}: the system message changed");
                let kept = before[1].parts.iter().zip(&after[1].parts).take_while(|(a, b)| a == b).count();
                let memory_parts = turn - 1;
                let stable = before[1].parts.len() - tail_parts(&pack);
                assert!(
                    kept >= stable && stable > memory_parts,
                    "{name} turn {turn}: {kept} of {stable} kept"
                );
                before = after;
            }
        }
    }

    /// Parts that stand after the memory in the planner's user message.
    fn tail_parts(pack: &Pack) -> usize {
        let user = &pack.roles["planner"].user;
        let memory = user.iter().position(|piece| *piece == Piece::Slot(Slot::Memory)).unwrap();
        user.len() - memory - 1
    }

    #[test]
    fn nothing_that_varies_between_turns_stands_before_the_memory() {
        for name in ["full", "compact"] {
            let pack = Pack::bundled(name).unwrap();
            for template in [&pack.roles["planner"].user, &pack.roles["planner"].system] {
                let end = template
                    .iter()
                    .position(|piece| *piece == Piece::Slot(Slot::Memory))
                    .unwrap_or(template.len());
                for piece in &template[..end] {
                    assert!(
                        !matches!(piece, Piece::Slot(Slot::TurnsLeft | Slot::Result | Slot::Verdict)),
                        "{name}: {piece:?} stands before the memory"
                    );
                }
            }
            assert!(pack.roles["planner"].user.contains(&Piece::Slot(Slot::Memory)), "{name}");
        }
    }

    #[test]
    fn roles_elsewhere_speak_with_their_own_pack() {
        let [compact, full] = ["compact", "full"].map(|name| Pack::bundled(name).unwrap());
        let mixed = compact.clone().with_roles(full.clone(), vec![Role::Generator, Role::Verifier]);
        let fill = Fill { query: "Who?", ..Fill::default() };
        for role in Role::ALL {
            let own = if matches!(role, Role::Generator | Role::Verifier) { &full } else { &compact };
            assert_eq!(mixed.messages(role, &fill), own.messages(role, &fill), "{}", role.name());
            assert_eq!(mixed.max_tokens(role), own.max_tokens(role));
        }
        assert_eq!(mixed.settings.name, "compact+full");
    }

    #[test]
    fn broken_packs_name_the_file_and_the_fault() {
        let mut files: BTreeMap<String, String> = BTreeMap::new();
        assert!(Pack::from_files(&files).unwrap_err().to_string().contains("pack.toml"));
        files.insert("pack.toml".into(), include_str!("../../assets/prompts/compact/pack.toml").into());
        for role in Role::ALL {
            files.insert(format!("{}.md", role.name()), "# system\na\n# user\n{{query}}\n".into());
        }
        files.insert("memory.md".into(), "{{result}}".into());
        assert!(Pack::from_files(&files).is_ok());
        files.insert("planner.md".into(), "# system\na\n# user\n{{quarry}}\n".into());
        let error = Pack::from_files(&files).unwrap_err().to_string();
        assert!(error.contains("planner.md") && error.contains("quarry"), "{error}");
    }

    #[test]
    fn the_small_planner_sees_earlier_queries_where_it_is_asked_about_them() {
        let conversation = [("What is the capital of Peru?".to_string(), "Lima".to_string())];
        let shown = |pack: &str, query: &str| {
            let fill = Fill { query, conversation: &conversation, ..Fill::default() };
            Pack::bundled(pack).unwrap().messages(Role::Planner, &fill)[1].parts.concat().contains("Lima")
        };
        assert!(shown("compact", "And its population?") && !shown("compact", "What is 12*12+1?"));
        assert!(shown("full", "And its population?") && shown("full", "What is 12*12+1?"));
    }
}
