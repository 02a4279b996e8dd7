//! Writes assets/tasks/{train,gate,held_out}.jsonl from the generators and the bundled knowledge.
//! Run it in the repository root after a change to either; a test says when it is due.

use tillerman::tasks::{Split, files};

fn main() -> std::io::Result<()> {
    for split in Split::ALL {
        let tasks = files::bundled(split);
        let path = format!("assets/tasks/{}.jsonl", split.name());
        std::fs::write(&path, files::write(&tasks))?;
        println!("{path}: {} questions", tasks.len());
    }
    Ok(())
}
