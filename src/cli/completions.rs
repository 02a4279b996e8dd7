//! `tillerman completions SHELL` and `tillerman man`, both made from the command line's own definition.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::error::Error;

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell to complete for
    pub shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> anyhow::Result<i32> {
    clap_complete::generate(args.shell, &mut Cli::command(), "tillerman", &mut std::io::stdout());
    Ok(0)
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// A command, e.g. `ask` or `model pull`
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write every page into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}

/// # Errors
/// There is no such command, or the pages cannot be written.
pub fn man(args: &ManArgs) -> anyhow::Result<i32> {
    if let Some(dir) = &args.dir {
        clap_mangen::generate_to(Cli::command(), dir).map_err(|e| {
            Error::Usage(format!(
                "cannot write the pages to {}: {e}; name a folder that exists",
                dir.display()
            ))
        })?;
        return Ok(0);
    }
    let mut all = Cli::command();
    all.build();
    let mut command = &all;
    for name in &args.command {
        command =
            command.get_subcommands().find(|one| one.get_name() == name && !one.is_hide_set()).ok_or_else(
                || Error::Usage(format!("there is no command {name:?}; tillerman --help lists them")),
            )?;
    }
    let title = args.command.iter().fold("tillerman".to_string(), |title, name| format!("{title}-{name}"));
    clap_mangen::Man::new(command.clone()).title(title).render(&mut std::io::stdout())?;
    Ok(0)
}
