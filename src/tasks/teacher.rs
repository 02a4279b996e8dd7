//! The scripted teacher: what each role would say for a task whose solution is known.
//!
//! Its demonstrations mix the right plan with plausible-but-wrong ones at stated rates, so that a model that
//! imitates it knows the format and the tools but not yet which plan works; that is left to training.
//! Commands depend on the plan alone and verdicts and answers on memory, so that they can be learnt.
//! Wrapping the texts into an engine is the caller's part.

use rand::SeedableRng;
use serde_json::{Value, json};

use crate::flow::memory::{Memory, MemoryEntry};
use crate::flow::trajectory::{Decision, Plan, Verdict};
use crate::tasks::names::{chance, pick};
use crate::tasks::{Answer, Family, Task, TaskRng, check, csv, game24, slip, tool};

/// The answer of the base generator tool when this teacher plays it.
pub const BASE_REPLY: &str = "I do not know.";
/// The answer when nothing was found.
pub const NO_ANSWER: &str = "I cannot answer that with my tools.";
/// Sub-goal of the base tool.
pub const BASE_GOAL: &str = "answer the question";

/// How often a turn's plan is wrong, each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// The base tool although a right step is left: ends the trajectory without an answer.
    pub base: [f64; 3],
    /// A wrong step that does not end it, at turns where the task has one.
    pub wrong: f64,
}

/// How often demonstrations go wrong.
///
/// Base rates are for the first, a middle and the last right step (one-step plans use the first). Where the
/// base rate exceeds the right step's, imitation alone fails even greedily: Game of 24, and the calculation
/// at the end of a look-up. Expected success of one sampled trajectory with perfect skills:
///
/// | family | success | | family | success |
/// |---|---|---|---|---|
/// | arithmetic, conversion | 0.79 | | hop3 | 0.54 |
/// | game24 | 0.40 | | lookup_arithmetic | 0.33 |
/// | lookup | 0.81 | | csv | 0.63 |
/// | hop2 | 0.64 | | unanswerable | 1.00 |
#[derive(Clone, Debug, PartialEq)]
pub struct WrongRates {
    /// In the order of [`Family::ALL`].
    pub families: [Rates; 9],
    /// After a wrong step that did not end it: chance of the right step (base otherwise).
    pub recover: f64,
}

impl Default for WrongRates {
    fn default() -> WrongRates {
        let rates = |base, wrong| Rates { base, wrong };
        WrongRates {
            families: [
                rates([0.18, 0.18, 0.18], 0.10), // arithmetic
                rates([0.18, 0.18, 0.18], 0.10), // conversion
                rates([0.50, 0.50, 0.50], 0.25), // game24
                rates([0.15, 0.15, 0.15], 0.13), // lookup
                rates([0.15, 0.20, 0.20], 0.15), // hop2
                rates([0.12, 0.15, 0.20], 0.15), // hop3
                rates([0.12, 0.15, 0.55], 0.12), // lookup_arithmetic
                rates([0.30, 0.30, 0.30], 0.20), // csv
                rates([0.00, 0.00, 0.00], 0.45), // unanswerable
            ],
            recover: 0.7,
        }
    }
}

impl WrongRates {
    /// Only right plans.
    pub fn none() -> WrongRates {
        WrongRates { families: [Rates { base: [0.0; 3], wrong: 0.0 }; 9], recover: 1.0 }
    }

    /// Short sums go by what arithmetic does.
    fn of(&self, family: Family) -> Rates {
        let at = Family::ALL.iter().position(|f| *f == family).unwrap_or(0);
        self.families[at]
    }
}

/// How a teacher behaves.
#[derive(Clone, Debug, Default)]
pub struct TeacherOptions {
    pub seed: u64,
    pub wrong: WrongRates,
    /// Chance that a right plan is miswritten: the later roles must cope with what a small planner does to
    /// names and numbers. Such a plan is acted on and never demonstrated (see [`Teacher::slipped`]).
    pub slip: f64,
}

/// Plays the four roles for one task. Same task, seed and results: same texts.
pub struct Teacher {
    task: Task,
    wrong: WrongRates,
    slip: f64,
    slipped: bool,
    rng: TaskRng,
}

impl Teacher {
    pub fn new(task: Task, options: TeacherOptions) -> Teacher {
        let hash = blake3::hash(format!("{} {}", task.id, options.seed).as_bytes());
        let rng = TaskRng::from_seed(*hash.as_bytes());
        Teacher { task, wrong: options.wrong, slip: options.slip, slipped: false, rng }
    }

    /// Whether the last plan was miswritten on purpose.
    pub fn slipped(&self) -> bool {
        self.slipped
    }

    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The planner's next plan.
    pub fn plan(&mut self, memory: &Memory) -> Plan {
        let mut plan = self.meant(memory);
        self.slipped = plan.tool != tool::BASE && self.slip > 0.0 && chance(&mut self.rng, self.slip);
        if self.slipped {
            plan.sub_goal = slip::miswrite(&plan.sub_goal, &self.task.query, memory, &mut self.rng);
        }
        plan
    }

    fn meant(&mut self, memory: &Memory) -> Plan {
        let done = self
            .task
            .steps
            .iter()
            .take_while(|step| memory.entries.iter().any(|e| step_worked(step, e)))
            .count();
        let failed = |goal: &str| memory.entries.iter().any(|entry| entry.sub_goal == goal);
        let Some(step) = self.task.steps.get(done).filter(|step| !failed(&step.sub_goal)) else {
            return base_plan();
        };
        let rates = self.wrong.of(self.task.family);
        let stage = if done == 0 { 0 } else { 1 + usize::from(done + 1 == self.task.steps.len()) };
        let right = || Plan {
            context: step.context.clone(),
            sub_goal: step.sub_goal.clone(),
            tool: step.tool.clone(),
        };
        let last_was_wrong = memory
            .entries
            .last()
            .is_some_and(|entry| self.task.steps.iter().all(|step| step.sub_goal != entry.sub_goal));
        if last_was_wrong {
            return if chance(&mut self.rng, self.wrong.recover) { right() } else { base_plan() };
        }
        if chance(&mut self.rng, rates.base[stage]) {
            return base_plan();
        }
        let choices: Vec<_> = self.task.wrong.iter().filter(|wrong| wrong.at == done).collect();
        if !choices.is_empty() && chance(&mut self.rng, rates.wrong / (1.0 - rates.base[stage])) {
            let wrong = pick(&mut self.rng, &choices);
            let context = if done == 0 { "none".to_string() } else { step.context.clone() };
            return Plan { context, sub_goal: wrong.sub_goal.clone(), tool: wrong.tool.clone() };
        }
        right()
    }

    /// The verifier's judgement of the turn that just ran. `failed`: the result is a fault.
    pub fn verdict(&self, plan: &Plan, result: &str, failed: bool) -> Verdict {
        let verdict = |decision, reason: &str| Verdict { decision, reason: reason.to_string() };
        if plan.tool == tool::BASE {
            return verdict(Decision::Stop, "gave up");
        }
        let found = self.task.steps.last().is_some_and(|last| {
            let sentence = !last.gives.is_empty() && result.contains(&last.gives);
            !failed
                && (sentence
                    || (plan.tool == last.tool && last.gives.is_empty() && self.gives_answer(result)))
        });
        if found { verdict(Decision::Stop, "answer found") } else { verdict(Decision::Continue, "not yet") }
    }

    fn gives_answer(&self, result: &str) -> bool {
        check(&self.task.answer, result)
    }

    /// The generator's answer, copied from the last result.
    pub fn answer(&self, memory: &Memory) -> String {
        let Some(last) = memory.entries.last().filter(|entry| entry.tool != tool::BASE && !entry.error)
        else {
            return NO_ANSWER.to_string();
        };
        let sentence =
            self.task.steps.last().map(|step| step.gives.as_str()).filter(|gives| !gives.is_empty());
        match sentence {
            Some(sentence) if last.result.contains(sentence) => stated(sentence, &self.task.answer),
            None if self.gives_answer(&last.result) => copied(&last.result),
            _ => NO_ANSWER.to_string(),
        }
    }
}

/// Did this entry bring what the step is for?
fn step_worked(step: &crate::tasks::Step, entry: &MemoryEntry) -> bool {
    entry.sub_goal == step.sub_goal
        && entry.tool == step.tool
        && !entry.error
        && entry.result.contains(&step.gives)
}

/// The value (or, for an inverse look-up, the entity) a sentence states.
fn stated(sentence: &str, answer: &Answer) -> String {
    match answer {
        Answer::Text { accepted } if !accepted.is_empty() => accepted[0].clone(),
        _ => sentence.trim_end_matches('.').rsplit(" is ").next().unwrap_or(sentence).to_string(),
    }
}

/// The first line of a result without a note such as "approx.".
fn copied(result: &str) -> String {
    let line = result.lines().next().unwrap_or("").trim();
    line.strip_prefix("approx. ").unwrap_or(line).to_string()
}

/// The analyst's text: what kind of answer is asked for. Names no tool.
pub fn analysis(task: &Task) -> String {
    match &task.answer {
        Answer::Number { .. } => "Asks for a number.",
        Answer::Text { .. } if task.family == Family::Conversion => "Asks for a date.",
        Answer::Text { .. } | Answer::CannotAnswer => "Asks for a name.",
        Answer::Game24 { .. } => "Asks for an expression.",
    }
    .to_string()
}

fn base_plan() -> Plan {
    Plan { context: "none".to_string(), sub_goal: BASE_GOAL.to_string(), tool: tool::BASE.to_string() }
}

/// The executor's arguments for a plan. Depends on nothing but the plan.
pub fn command(plan: &Plan) -> Value {
    arguments(&plan.tool, &plan.sub_goal)
}

/// The fixed rule from (tool, sub-goal) to arguments; every sub-goal gives well-formed arguments.
pub fn arguments(tool: &str, sub_goal: &str) -> Value {
    let object = ["compute ", "convert ", "find "].iter().find_map(|verb| sub_goal.strip_prefix(verb));
    let object = object.unwrap_or(sub_goal);
    let bare = object.strip_prefix("the ").unwrap_or(object);
    match tool {
        tool::CALCULATOR => json!({ "expression": bare }),
        tool::SEARCH => json!({ "query": bare }),
        tool::PYTHON => json!({ "code": code(sub_goal) }),
        _ => json!({ "question": sub_goal }),
    }
}

/// The program for a sub-goal; for one of another kind, a program that prints it.
fn code(sub_goal: &str) -> String {
    game24::program(sub_goal)
        .or_else(|| csv::program(sub_goal))
        .unwrap_or_else(|| format!("print({})", json!(sub_goal)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Split, World, generate::generate_many};

    /// Runs the plans against results that are right for right steps, useless for wrong ones.
    fn play(task: &Task, options: TeacherOptions) -> (Vec<Plan>, String) {
        let mut teacher = Teacher::new(task.clone(), options);
        let (mut memory, mut plans) = (Memory::default(), Vec::new());
        for turn in 1..=10 {
            let plan = teacher.plan(&memory);
            let right =
                task.steps.iter().find(|step| step.sub_goal == plan.sub_goal && step.tool != tool::BASE);
            let (result, error) = match right {
                Some(step) if !step.gives.is_empty() => (step.gives.clone(), false),
                Some(_) => (answer_text(&task.answer), false),
                None if plan.tool == tool::BASE => (BASE_REPLY.to_string(), false),
                None => ("nothing here".to_string(), plan.tool == tool::CALCULATOR),
            };
            let verdict = teacher.verdict(&plan, &result, error);
            memory.entries.push(MemoryEntry {
                turn,
                sub_goal: plan.sub_goal.clone(),
                tool: plan.tool.clone(),
                command: command(&plan),
                result,
                cut_chars: 0,
                error,
                verdict: verdict.clone(),
                time_ms: 0.0,
            });
            plans.push(plan);
            if verdict.decision == Decision::Stop {
                break;
            }
        }
        (plans, teacher.answer(&memory))
    }

    fn answer_text(answer: &Answer) -> String {
        match answer {
            Answer::Number { value, .. } => format!("approx. {value:.10}\n"),
            Answer::Text { accepted } => accepted[0].clone(),
            // A solution is not needed here; the tools' own test has them.
            Answer::Game24 { .. } | Answer::CannotAnswer => String::new(),
        }
    }

    fn tasks() -> Vec<Task> {
        let mut rng = TaskRng::seed_from_u64(5);
        let world = World::synthetic(5);
        Family::ALL
            .into_iter()
            .filter(|family| *family != Family::Game24)
            .flat_map(|family| generate_many(family, &world, Split::Train, 12, &mut rng))
            .collect()
    }

    #[test]
    fn right_plans_end_in_the_right_answer() {
        for task in tasks() {
            let (plans, answer) =
                play(&task, TeacherOptions { seed: 1, wrong: WrongRates::none(), slip: 0.0 });
            assert_eq!(plans.len(), task.steps.len(), "{task:?}");
            assert!(check(&task.answer, &answer), "{answer:?} for {task:?}");
        }
    }

    #[test]
    fn demonstrations_fail_as_often_as_stated() {
        for family in [Family::Lookup, Family::Hop2, Family::LookupArithmetic, Family::Unanswerable] {
            let of_family: Vec<Task> = tasks().into_iter().filter(|task| task.family == family).collect();
            let (mut right, mut all) = (0, 0);
            for seed in 0..100 {
                for task in &of_family {
                    let (_, answer) = play(task, TeacherOptions { seed, ..TeacherOptions::default() });
                    right += usize::from(check(&task.answer, &answer));
                    all += 1;
                }
            }
            let rate = right as f64 / all as f64;
            let stated = match family {
                Family::Lookup => 0.81,
                Family::Hop2 => 0.64,
                Family::LookupArithmetic => 0.34,
                _ => 1.0,
            };
            assert!((rate - stated).abs() < 0.06, "{family:?}: {rate} of {all}, table says {stated}");
        }
    }

    /// The pack that speaks with what this teacher taught holds answers to the same words.
    #[test]
    fn the_compact_pack_knows_what_is_said_when_nothing_was_found() {
        let pack = crate::flow::prompt::Pack::bundled("compact").unwrap();
        assert_eq!(pack.settings.no_answer.as_deref(), Some(NO_ANSWER));
    }

    #[test]
    fn same_seed_same_plans() {
        let (mut same, mut different) = (true, false);
        for task in tasks() {
            let plans = |seed| play(&task, TeacherOptions { seed, ..TeacherOptions::default() });
            same &= plans(3) == plans(3);
            different |= (4..10).any(|seed| plans(3) != plans(seed));
        }
        assert!(same && different);
    }

    #[test]
    fn commands_follow_from_the_plan() {
        for (tool, goal, expected) in [
            (tool::CALCULATOR, "compute 12*7+5", json!({"expression": "12*7+5"})),
            (tool::CALCULATOR, "convert 5 miles to km", json!({"expression": "5 miles to km"})),
            (tool::CALCULATOR, "find the capital of Peru", json!({"expression": "capital of Peru"})),
            (tool::SEARCH, "find the capital of Peru", json!({"query": "capital of Peru"})),
            (tool::SEARCH, "compute 1+1", json!({"query": "1+1"})),
            (tool::BASE, BASE_GOAL, json!({"question": BASE_GOAL})),
            (
                tool::PYTHON,
                "count rows of staff.csv where age > 30",
                json!({"code":
                "import csv\nr=[x for x in csv.DictReader(open(\"data/staff.csv\")) if int(x[\"age\"])>30]\nprint(len(r))\n"}),
            ),
            (
                tool::PYTHON,
                "sum pay of orders.csv where city = Lima",
                json!({"code":
                "import csv\nr=[x for x in csv.DictReader(open(\"data/orders.csv\")) if x[\"city\"]==\"Lima\"]\nprint(sum(int(x[\"pay\"]) for x in r))\n"}),
            ),
            (tool::PYTHON, "find the capital", json!({"code": "print(\"find the capital\")"})),
        ] {
            assert_eq!(arguments(tool, goal), expected, "{tool} {goal}");
        }
    }
}
