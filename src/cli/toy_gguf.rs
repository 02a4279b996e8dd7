//! `tillerman __toy-gguf`: writes a model or an adapter of random weights, for benchmarks and tests.
//!
//! Hidden: nothing a person needs for a question. The weights know nothing.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::error::{EngineError, Error, Result};
use crate::gguf::toy::{Architecture, SHAPES, ToyModel, shape_named, toy_adapter};
use crate::gguf::{TensorType, check};

#[derive(Clone, Debug, Args)]
pub struct ToyGgufArgs {
    /// File to write
    pub out: PathBuf,
    /// toy (64x2), 8m (320x8), 0.5b (Qwen2.5-0.5B's), 7b (Qwen2.5-7B's)
    #[arg(long, default_value = "0.5b", value_parser = clap::builder::PossibleValuesParser::new(SHAPES.map(|s| s.name)))]
    pub shape: String,
    #[arg(long = "type", value_enum, default_value = "q8_0")]
    pub kind: Kind,
    #[arg(long, value_enum, default_value = "qwen2")]
    pub arch: Arch,
    /// A separate output head
    #[arg(long)]
    pub untied: bool,
    /// Tokens the file claims to have been trained on
    #[arg(long, default_value_t = 8192)]
    pub context: u32,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write a LoRA adapter for this model instead
    #[arg(long, value_name = "BASE")]
    pub adapter_for: Option<PathBuf>,
    #[arg(long, default_value_t = 8, requires = "adapter_for")]
    pub rank: u32,
    #[arg(long, default_value_t = 16.0, requires = "adapter_for")]
    pub alpha: f32,
    /// Spread of the adapter's weights
    #[arg(long, default_value_t = 0.02, requires = "adapter_for")]
    pub scale: f32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    F32,
    F16,
    #[value(name = "q8_0")]
    Q8,
    #[value(name = "q4_0")]
    Q4,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Arch {
    Llama,
    Qwen2,
    Qwen3,
}

/// Write the file and say what it is.
///
/// # Errors
/// [`Error`] if the base is refused or the file cannot be written.
pub fn run(args: &ToyGgufArgs) -> Result<()> {
    if let Some(base) = &args.adapter_for {
        toy_adapter(&args.out, base, args.rank, args.alpha, args.seed, args.scale)?;
        println!("{}: random adapter, rank {}, for {}", args.out.display(), args.rank, base.display());
        return Ok(());
    }
    let shape = shape_named(&args.shape).ok_or_else(|| Error::Usage(format!("no shape {:?}", args.shape)))?;
    let model = ToyModel {
        shape,
        architecture: match args.arch {
            Arch::Llama => Architecture::Llama,
            Arch::Qwen2 => Architecture::Qwen2,
            Arch::Qwen3 => Architecture::Qwen3,
        },
        kind: match args.kind {
            Kind::F32 => TensorType::F32,
            Kind::F16 => TensorType::F16,
            Kind::Q8 => TensorType::Q8_0,
            Kind::Q4 => TensorType::Q4_0,
        },
        tied: !args.untied,
        control: &[],
        user_defined: 0,
        context: args.context,
        seed: args.seed,
    };
    model.write(&args.out).map_err(|e| Error::Usage(format!("cannot write {:?}: {e}", args.out)))?;
    let header = check(&args.out).map_err(EngineError::from)?;
    println!(
        "{}: random {} {}, {} parameters, {} bytes",
        args.out.display(),
        header.architecture,
        header.file_type,
        header.parameters,
        header.file_bytes
    );
    Ok(())
}
