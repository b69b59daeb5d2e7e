//! A new version of a type while objects of it live: `crucial push --replace`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crucial::Shared;
use crucial_client::Client;
use crucial_object::caller;
use crucial_testing::{Cluster, Executable, Net, Options, Server, wait_until};
use guest::Account;

/// Runs a command of the server or cluster of a test.
type Crucial<'a> = &'a dyn Fn(&[&str]) -> Result<String, String>;

fn executable() -> Executable {
    Executable::crucial(env!("CARGO_BIN_EXE_crucial"))
}

/// Far more than what is waited for takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A path as a word of a command.
fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// Held while a version is built: each is built in the place of the one before.
static BUILDING: Mutex<()> = Mutex::new(());

/// Builds a version of the guest, and gives the module, which is this test's own.
fn build(crucial: Crucial<'_>, version: Option<&str>) -> String {
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/tests/guest/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("versions");
    let mut words = vec!["build", "--manifest-path", text(&manifest)];
    words.extend(["--target-dir", text(&target)]);
    words.extend(
        version
            .map(|version| ["--features", version])
            .into_iter()
            .flatten(),
    );
    let module = crucial(&words).unwrap();
    let test = std::thread::current();
    let version = version.unwrap_or("first");
    let kept = target.join(format!("{}-{version}.wasm", test.name().unwrap_or("test")));
    std::fs::copy(module, &kept).unwrap();
    text(&kept).to_owned()
}

#[test]
fn objects_move_to_a_new_version_of_their_type_or_all_stay() {
    let options = ["--module-cache", env!("CARGO_TARGET_TMPDIR")];
    let server = Server::start(&executable(), &options).unwrap();
    objects_move(&|words| server.crucial(words), &|| server.client().unwrap());
}

#[test]
fn in_a_cluster_their_replicas_move_too() {
    let options = Options {
        executable: Some(executable()),
        ..Options::default()
    };
    let mut cluster = Cluster::start_with(3, Net::Loopback, options).unwrap();
    let connect = || {
        let client = cluster.client_with(0, |config| config.replicas = 2);
        client.unwrap()
    };
    let (client, accounts) = objects_move(&|words| cluster.crucial(0, words), &connect);
    caller::with(client, || {
        let cents = || -> Vec<_> {
            let cents = accounts.iter().map(|account| account.cents());
            cents.collect::<Result<_, _>>().unwrap()
        };
        let before = cents();
        // Every second object or so is on a server that ends now, and goes on where its replica is: in the newest code.
        cluster.kill(1).unwrap();
        assert_eq!(cents(), before);
        for (account, before) in accounts.iter().zip(before) {
            assert_eq!(account.deposit(1), Ok(before + 1));
        }
        // One that joins has the newest code too.
        let late = cluster.add().unwrap();
        cluster.wait_whole().unwrap();
        let modules = only_module(&|words| cluster.crucial(late, words));
        // The module cannot be removed while it has objects, and new objects can still be created.
        let id = modules.split('"').skip_while(|word| *word != "id").nth(2);
        let refused = cluster.crucial(late, &["modules", "remove", id.unwrap()]);
        let refused = refused.unwrap_err();
        assert!(refused.contains("objects of its types live"), "{refused}");
        let other = Shared::new(guest::Ordered::default()).unwrap();
        assert_eq!(other.count(5), Ok(1));
        cluster.kill(2).unwrap();
        for account in &accounts {
            account.deposit(1).unwrap();
            assert_eq!(account.delete(), Ok(true));
        }
    });
}

/// Waits until there is one module, and describes it. Each server lets go of an old one by itself, behind the push.
fn only_module(crucial: Crucial<'_>) -> String {
    let mut modules = String::new();
    wait_until("the old module is gone", PATIENCE, || {
        modules = crucial(&["modules"]).unwrap();
        Ok(modules.matches("\"id\"").count() == 1)
    })
    .unwrap();
    modules
}

/// Moves objects from version to version; the last has all of them.
fn objects_move(
    crucial: Crucial<'_>,
    connect: &dyn Fn() -> Arc<Client>,
) -> (Arc<Client>, Vec<Shared<Account>>) {
    let client = connect();
    let [first, second, wider, upgraded] = [None, Some("second"), Some("wider"), Some("upgraded")]
        .map(|version| build(crucial, version));
    let accounts = caller::with(client.clone(), || {
        crucial(&["push", &first]).unwrap();
        let accounts: Vec<_> = (0..50)
            .map(|cents| {
                let account = Shared::new(Account::default()).unwrap();
                assert_eq!(account.deposit(cents), Ok(cents));
                account
            })
            .collect();
        let waiting = accounts[0].deferred().withdraw(10);

        // Not without being asked; and not if the state does not fit.
        let refused = crucial(&["push", &second]).unwrap_err();
        assert!(refused.contains("crucial push --replace"), "{refused}");
        let refused = crucial(&["push", "--replace", &wider]).unwrap_err();
        assert!(
            refused.contains("cannot move to the new version: guest::Account"),
            "{refused}"
        );
        assert_eq!(accounts[7].deposit(1), Ok(8));

        // While others call: each call runs on the old code or on the new, and none fails.
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let caller = connect();
            let account = &accounts[1];
            let done = &done;
            let calling = scope.spawn(move || {
                caller::with(caller, || {
                    let mut last = 1;
                    let mut steps = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        let cents = account.deposit(1).unwrap();
                        steps.push(cents - last);
                        last = cents;
                    }
                    steps
                })
            });
            let pushed = crucial(&["push", "--replace", &second]);
            done.store(true, Ordering::Relaxed);
            let steps = calling.join().unwrap();
            let pushed = pushed.unwrap();
            assert!(pushed.contains("\"moved\":50"), "{pushed}");
            assert!(steps.contains(&1) && steps.is_sorted(), "{steps:?}");
        });
        assert_eq!(accounts[7].deposit(1), Ok(10));
        // A call that waits in the old code completes in the new.
        assert_eq!(accounts[0].deposit(5), Ok(10));
        assert_eq!(waiting.wait(), Ok(0));
        only_module(crucial);
        // New objects are of the new version; and the way back is the same way.
        let new = Shared::new(Account::default()).unwrap();
        assert_eq!(new.deposit(1), Ok(2));
        let back = crucial(&["push", "--replace", &first]).unwrap();
        assert!(back.contains("\"moved\":51"), "{back}");
        assert_eq!(new.deposit(1), Ok(3));

        // A version that says what becomes of the state that was.
        let pushed = crucial(&["push", "--replace", &upgraded]).unwrap();
        assert!(pushed.contains("\"moved\":51"), "{pushed}");
        assert_eq!(new.cents(), Ok(300));
        // The same again moves nothing.
        let pushed = crucial(&["push", "--replace", &upgraded]).unwrap();
        assert!(pushed.contains("\"moved\":0"), "{pushed}");
        assert_eq!(new.cents(), Ok(300));
        let narrow = crucial(&["push", "--replace", &first]).unwrap_err();
        assert!(narrow.contains("does not accept this"), "{narrow}");
        accounts
    });
    (client, accounts)
}

#[test]
fn a_program_brings_its_own_module() {
    let server = Server::start(&executable(), &[]).unwrap();
    let module = build(&|words| server.crucial(words), None);
    // As a program does that has it beside its executable.
    let executable = std::env::current_exe().unwrap();
    let beside = format!("{}.wasm", text(&executable));
    std::fs::copy(module, &beside).unwrap();
    let mut config = crucial::Config::from_env().unwrap();
    config.cluster = Some(server.address.parse().unwrap());
    crucial::init(config).unwrap();
    let account = Shared::new(Account::default());
    std::fs::remove_file(beside).unwrap();
    assert_eq!(account.unwrap().deposit(3), Ok(3));
    assert!(
        server
            .crucial(&["modules"])
            .unwrap()
            .contains("guest::Account")
    );
}
