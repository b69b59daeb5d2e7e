//! A8: a user type is added to a running server, and used at once. The server is the `crucial` command, which
//! was built without it; this test has the type natively.

use std::path::Path;

use crucial::{Error, Shared};
use crucial_object::caller;
use crucial_testing::{Executable, Server};
use guest::{Account, Sizes};

fn start() -> Server {
    let crucial = Executable::crucial(env!("CARGO_BIN_EXE_crucial"));
    Server::start(&crucial, &[]).unwrap()
}

fn build(server: &Server) -> String {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/tests/guest/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
    let arguments = [
        "build",
        "--manifest-path",
        manifest.to_str().unwrap(),
        "--target-dir",
        target.to_str().unwrap(),
    ];
    server.crucial(&arguments).unwrap()
}

#[test]
fn a08_a_type_is_added_to_a_running_server_and_used_at_once() {
    let server = start();
    caller::with(server.client().unwrap(), || {
        let unknown = Shared::new(Account::default()).unwrap_err();
        assert!(matches!(unknown, Error::UnknownType { .. }));
        assert!(unknown.to_string().contains("crucial push"), "{unknown}");

        let module = build(&server);
        let pushed = server.crucial(&["push", &module]).unwrap();
        assert!(
            pushed.contains("guest::Account") && pushed.contains("withdraw"),
            "{pushed}"
        );
        assert!(!pushed.contains("crucial::Map"), "{pushed}");
        // Again is as good as once.
        assert_eq!(server.crucial(&["push", &module]).unwrap(), pushed);

        let account = Shared::new(Account::default()).unwrap();
        assert_eq!(account.deposit(5), Ok(5));
        assert_eq!(account.take(7), Err(Error::from("insufficient funds")));
        let waiting = account.deferred().withdraw(10);
        assert_eq!(account.deposit(5), Ok(10));
        assert_eq!(waiting.wait(), Ok(5));
        // A panic has its message and place, and poisons; the state is as it was left.
        match account.explode(3) {
            Err(Error::Panicked {
                message, location, ..
            }) => assert!(message == "exploded at 3" && location.contains("lib.rs")),
            other => panic!("{other:?}"),
        }
        assert!(matches!(account.deposit(1), Err(Error::Poisoned { .. })));
        assert_eq!(account.clear_poison(), Ok(true));
        assert_eq!(account.cents(), Ok(3));

        let other = Shared::new(Account::default()).unwrap();
        assert_eq!(other.deposit(1), Ok(1));
        let id = &pushed[pushed.find("\"id\":\"").unwrap() + 6..][..12];
        let refused = server.crucial(&["modules", "remove", id]).unwrap_err();
        assert!(refused.contains("2 objects of its types live"), "{refused}");
        assert!(account.delete().unwrap() && other.delete().unwrap());
        assert_eq!(server.crucial(&["modules", "remove", id]).unwrap(), "true");
        assert_eq!(server.crucial(&["modules"]).unwrap(), "");
        assert!(matches!(
            Shared::new(Account::default()),
            Err(Error::UnknownType { .. })
        ));
    });
}

#[test]
fn k14_numbers_that_32_bits_do_not_hold_are_errors() {
    let server = start();
    caller::with(server.client().unwrap(), || {
        server.crucial(&["push", &build(&server)]).unwrap();
        let sizes = Shared::new(Sizes::default()).unwrap();
        assert_eq!(sizes.multiply(70_000, 60_000), Ok(4_200_000_000));
        match sizes.multiply(70_000, 70_000) {
            Err(Error::Panicked { message, .. }) => {
                assert!(message.contains("overflow"), "{message}")
            }
            other => panic!("{other:?}"),
        }
        // An argument and a field are named with their value, and what to write instead.
        let large = 5_000_000_000u64;
        let argument = sizes.multiply(1, large as usize).unwrap_err();
        assert!(matches!(argument, Error::BadArguments { .. }));
        let field = Shared::new(Sizes {
            count: 1,
            largest: large as usize,
        });
        for (error, places) in [
            (argument, ["Sizes::multiply", "at 1: "]),
            (field.unwrap_err(), ["guest::Sizes", "at Sizes.largest: "]),
        ] {
            let said = error.to_string();
            for part in places
                .into_iter()
                .chain(["5000000000", "usize", "write u64"])
            {
                assert!(said.contains(part), "{said}");
            }
        }
        // Sums and numbers of other sizes as well; what panics halfway poisons, as a native method would.
        assert!(matches!(
            sizes.narrow(u64::from(u32::MAX)),
            Err(Error::Panicked { .. })
        ));
        assert!(matches!(sizes.narrow(1), Err(Error::Poisoned { .. })));
    });
}

#[test]
fn g05_a_bad_module_is_refused_with_its_reason_and_the_server_goes_on() {
    let server = start();
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bad.wasm");
    std::fs::write(&file, b"\0asm\x01\0\0\0").unwrap();
    let refused = server
        .crucial(&["push", file.to_str().unwrap()])
        .unwrap_err();
    assert!(
        refused.contains("it does not export crucial_abi"),
        "{refused}"
    );
    std::fs::write(&file, b"no module at all").unwrap();
    let refused = server
        .crucial(&["push", file.to_str().unwrap()])
        .unwrap_err();
    assert!(
        refused.contains("it is not a WebAssembly module"),
        "{refused}"
    );
    assert_eq!(
        server.crucial(&["counter", "hits", "add", "1"]).unwrap(),
        "1"
    );
}
