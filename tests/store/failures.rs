//! Damaged files, directories that cannot be written, full disks: an error that says what to do, and
//! nothing lost that was acknowledged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tillerman::config::Home;
use tillerman::flow::event::{Body, Cause};
use tillerman::store::{Store, StoreError};

use crate::crash::CHILD;
use crate::events::*;
use crate::open;

fn filled(dir: &Path) -> Home {
    let store = open(dir);
    for n in 0..40 {
        let id = format!("id-{n}");
        trajectory(&id, "s", &"query ".repeat(100), "a")
            .iter()
            .for_each(|event| store.record(event).unwrap());
    }
    Home::open(Some(dir)).unwrap()
}

#[test]
fn a_damaged_page_is_named_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let home = filled(dir.path());
    let mut bytes = fs::read(home.database()).unwrap();
    // All but the pages the tables begin with, so that opening succeeds and reading meets the damage.
    let roots: u32 = rusqlite::Connection::open(home.database())
        .and_then(|db| db.query_row("SELECT max(rootpage) FROM sqlite_schema", [], |row| row.get(0)))
        .unwrap();
    let whole = (roots as usize + 1) * 4096;
    assert!(bytes.len() > 2 * whole);
    bytes[whole..].fill(0xa5);
    fs::write(home.database(), &bytes).unwrap();
    let store = open(dir.path());
    let errors: Vec<StoreError> =
        (0..40).filter_map(|n| store.trajectory_events(&format!("id-{n}")).err()).collect();
    assert!(!errors.is_empty());
    for error in errors {
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(&*home.database().to_string_lossy()), "{error}");
        assert!(error.to_string().contains(".recover"), "{error}");
    }
}

#[test]
fn after_a_crash_damage_is_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let home = filled(dir.path());
    let whole = fs::read(home.database()).unwrap();
    fs::write(home.running().join("crashed"), "").unwrap();
    let leftover = fs::File::create(dir.path().join(".tmpHalf")).unwrap();
    leftover.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200)).unwrap();
    fs::write(dir.path().join(".tmpNow"), "").unwrap();
    for damage in [
        &whole[..whole.len() / 2],
        &[&whole[..40 * 4096], &vec![0xa5; whole.len() - 40 * 4096][..]].concat(),
        &[&b"no database"[..], &whole[11..]].concat(),
    ] {
        fs::write(home.database(), damage).unwrap();
        // Twice: a first look must not make the second one careless.
        for _ in 0..2 {
            let error = Store::open(&home).map(drop).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }
    fs::write(home.database(), &whole).unwrap();
    let store = Store::open(&home).unwrap();
    assert_eq!(store.opened().crashed, 1);
    assert!(!dir.path().join(".tmpHalf").exists() && dir.path().join(".tmpNow").exists());
    drop(store);
    assert_eq!(Store::open(&home).unwrap().opened().crashed, 0);
}

#[test]
fn a_lost_blob_hurts_its_trajectory_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for id in ["id-1", "id-2"] {
        let mut events = trajectory(id, "s", "q", "a");
        events.extend(numbered(id, 90, vec![memory(2, &id.repeat(20_000))]));
        events.iter().for_each(|event| store.record(event).unwrap());
    }
    let hash = blake3::hash("id-1".repeat(20_000).as_bytes()).to_hex().to_string();
    fs::remove_file(dir.path().join("blobs").join(&hash)).unwrap();
    let message = store.trajectory_events("id-1").unwrap_err().to_string();
    assert!(message.contains(&hash) && message.contains("id-1"), "{message}");
    assert!(store.trajectory_events("id-2").is_ok());
}

/// Root writes everywhere, so the look is taken by another user where this one is root.
#[test]
fn a_directory_that_cannot_be_written_is_named_with_the_remedy() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
    let program = dir.path().join("child");
    // By another process: a descriptor of this one that writes it may live on for a moment in what another test
    // starts, and a file that is being written cannot be run.
    let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let empty = dir.path().join("empty");
    let full = dir.path().join("full");
    fs::create_dir(&empty).unwrap();
    filled(&full);
    for home in [&empty, &full] {
        fs::set_permissions(home, fs::Permissions::from_mode(0o555)).unwrap();
        let mut child = Command::new(&program);
        child.args(CHILD).env("TILLERMAN_CHILD", "open").env("TILLERMAN_HOME", home);
        if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            child.uid(65_534).gid(65_534);
        } else if *home == full {
            fs::set_permissions(full.join("tillerman.db"), fs::Permissions::from_mode(0o400)).unwrap();
        }
        let output = child.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let said = said.lines().find(|line| line.contains("opened ")).unwrap_or_else(|| panic!("{output:?}"));
        assert!(said.contains("cannot be written") && said.contains("--home"), "{said}");
        assert!(said.contains(&*home.to_string_lossy()), "{said}");
        fs::set_permissions(home, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// On a small tmpfs in a mount namespace of its own, where this machine permits one.
#[test]
fn a_full_disk_lets_the_turn_end_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=14m tmpfs \"$TILLERMAN_HOME\" || exit 77; exec \"$0\" \"$@\"";
    let output = Command::new("unshare")
        .args(["-Urm", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .args(CHILD)
        .env("TILLERMAN_CHILD", "full")
        .env("TILLERMAN_HOME", dir.path())
        .output();
    let Ok(output) = output else {
        println!("skipped: no unshare program here");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains("tmpfs ready") {
        println!("skipped: no mount namespace here: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The child of the test above; its directory is a tmpfs of 14 MiB.
pub fn full_disk(home: &Home) {
    println!("tmpfs ready");
    let store = Store::open(home).unwrap();
    let mut kept = vec![started("id-1", "s", "q", Vec::new())];
    store.record(&kept[0]).unwrap();
    let mut filler = fs::File::create(home.root().join("filler")).unwrap();
    while std::io::Write::write_all(&mut filler, &[1; 4096]).is_ok() {}
    assert!(!store.is_full());

    // The turn in progress ends well: 1 MiB of it comes out of the ballast.
    let mut bodies: Vec<Body> = (0..20).map(|_| call(1, &"words ".repeat(8_000), 500)).collect();
    bodies.push(memory(1, &"a long result ".repeat(6_000)));
    for event in numbered("id-1", 1, bodies) {
        store.record(&event).unwrap();
        kept.push(event);
    }
    assert!(store.is_full());
    // Nothing new begins, and the error says what to do.
    let next = numbered("id-1", 40, vec![Body::TurnStarted { turn: 2 }]).next().unwrap();
    for refused in [&next, &started("id-2", "s", "q", Vec::new())] {
        let message = store.record(refused).unwrap_err().to_string();
        assert!(message.contains("disk full") && message.contains("free some space"), "{message}");
    }
    let failed =
        Body::Failed { reason: "disk full".into(), remedy: "free some".into(), cause: Cause::Record };
    let last = numbered("id-1", 41, vec![failed]).next().unwrap();
    store.record(&last).unwrap();
    kept.push(last);
    assert_eq!(store.trajectory_events("id-1").unwrap(), kept);
    drop(store);

    // The same again with no reserve at all: still an error, still readable.
    while std::io::Write::write_all(&mut filler, &[1; 512]).is_ok() {}
    let store = Store::open(home).unwrap();
    assert!(store.is_full());
    assert!(store.record(&started("id-3", "s", "q", Vec::new())).unwrap_err().is_disk_full());
    assert_eq!(store.trajectory_events("id-1").unwrap(), kept);

    // Space is back: so is everything else.
    drop(filler);
    fs::remove_file(home.root().join("filler")).unwrap();
    store.record(&started("id-3", "s", "q", Vec::new())).unwrap();
    assert!(!store.is_full() && home.ballast().exists());
}

#[test]
fn a_locked_database_is_waited_for_and_then_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let other = rusqlite::Connection::open(dir.path().join("tillerman.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting = std::thread::spawn(move || store.record(&started("id-1", "s", "q", Vec::new())));
    let error = waiting.join().unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
    other.execute_batch("ROLLBACK").unwrap();
    open(dir.path()).record(&started("id-1", "s", "q", Vec::new())).unwrap();
}
