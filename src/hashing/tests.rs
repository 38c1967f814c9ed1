use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;
use crate::hashing::vectors::{LONG, VECTORS};
use crate::hashing::{Limits, Pepper};

/// Cheap enough for tests in debug builds.
fn cheap() -> Options {
    Options { memory_kib: 64, time_cost: 1, threads: 2, ..Options::default() }
}

fn pool(options: Options) -> HashPool {
    HashPool::new(options).unwrap()
}

fn secret(text: &str) -> SecretString {
    text.to_owned().into()
}

#[tokio::test]
async fn what_is_hashed_verifies() {
    let pool = pool(cheap());
    let stored = pool.hash(secret("correct horse")).await.unwrap();
    assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{stored}");
    assert_ne!(stored, pool.hash(secret("correct horse")).await.unwrap(), "each hash has its own salt");
    let found = |password| pool.verify(secret(password), &stored);
    assert_eq!(found("correct horse").await, Ok(Verification { matches: true, outdated: false }));
    assert_eq!(found("Correct horse").await, Ok(Verification { matches: false, outdated: false }));
    assert_eq!(found("").await, Ok(Verification { matches: false, outdated: false }));
    pool.verify_dummy(secret("correct horse")).await.unwrap();
}

#[tokio::test]
async fn hashes_of_the_reference_implementation_verify() {
    // Made with argon2-cffi 25.1 (the C reference implementation), password "correct horse", salt "somesaltsomesalt".
    let pool = pool(cheap());
    for stored in [
        "$argon2id$v=19$m=256,t=3,p=2$c29tZXNhbHRzb21lc2FsdA$7spm2x4WHG8c8C+Y0OpAgx/lehOzaF6sfo6KPWr/D3Y",
        "$argon2i$v=19$m=128,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$F31IYLYIfFUupomUUntzsgiWFQcv0nh7",
        "$argon2d$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$QDJVuTLJwFKtxVpFgI7OZ+5vKNivE3/1uHdQRDQQ/6yODlcjGMbIPOWS6O+dwksnSfLLrWJYrbr5UrImMeWMag",
        "$argon2id$v=16$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$qlDRLWdaWXC3qOQ1YJVNXPIdJG4u7A9jWgNWRhA5J0w",
        "$argon2i$v=16$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$YYwAf20/kMKomIaBp36Pkw",
    ] {
        assert_eq!(
            pool.verify(secret("correct horse"), stored).await,
            Ok(Verification { matches: true, outdated: true }),
            "{stored}"
        );
        assert!(!pool.verify(secret("wrong"), stored).await.unwrap().matches);
        assert_eq!(pool.check_importable(stored), Ok(HashKind::Argon2));
    }
    // The same with the pepper "0123456789abcdef" as the secret value.
    let pepper = Pepper::new("keypeppe", b"0123456789abcdef");
    let pool = HashPool::new(Options { peppers: vec![pepper], ..cheap() }).unwrap();
    let stored = "$argon2id$v=19$m=64,t=1,p=1,keyid=a2V5cGVwcGU$c29tZXNhbHRzb21lc2FsdA$xmuTKHuL98lyPGfxg/9yFeYdTrgvDj3LZUDIRF8gHHg";
    assert_eq!(pool.verify(secret("correct horse"), stored).await, Ok(Verification { matches: true, outdated: false }));
}

#[tokio::test]
async fn hashes_of_other_libraries_verify_and_are_outdated() {
    let pool = pool(cheap());
    for (_, password, stored) in VECTORS {
        let found = pool.verify(secret(password), stored).await.unwrap();
        let ours = stored.starts_with("argon2$argon2id$v=19$m=64,t=1,p=1$");
        assert_eq!(found, Verification { matches: true, outdated: !ours }, "{stored}");
        // The first character, which every algorithm sees.
        let wrong: String = std::iter::once('C').chain(password.chars().skip(1)).collect();
        assert!(!pool.verify(secret(&wrong), stored).await.unwrap().matches, "{stored}");
    }
}

#[tokio::test]
async fn bcrypt_looks_at_72_bytes_as_it_does_elsewhere() {
    let pool = pool(cheap());
    let stored = "$2b$04$abcdefghijklmnopqrstuufHeA4Fq.encf94eJl9nyacODU6KGc1K";
    let matches = async |password: &str| pool.verify(secret(password), stored).await.unwrap().matches;
    assert!(matches(LONG).await && matches(&LONG[..72]).await && matches(&format!("{}!", &LONG[..72])).await);
    assert!(!matches(&LONG[..71]).await);
    // What is made here is of all of it.
    let ours = pool.hash(secret(LONG)).await.unwrap();
    assert!(!pool.verify(secret(&LONG[..72]), &ours).await.unwrap().matches);
    // Its key goes round and round: "a", and "a", NUL, "a", would open the same.
    let stored = "$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    assert!(!pool.verify(secret("correct horse\0correct horse"), stored).await.unwrap().matches);
}

#[tokio::test]
async fn a_pepper_can_be_added_replaced_and_missed() {
    let (first, second) = (Pepper::new("first", b"one secret"), Pepper::new("second", b"another one"));
    let with = |peppers: &[&Pepper]| pool(Options { peppers: peppers.iter().copied().cloned().collect(), ..cheap() });
    let before = with(&[]).hash(secret("pass")).await.unwrap();
    let old = with(&[&first]).hash(secret("pass")).await.unwrap();
    assert!(old.contains(",keyid=Zmlyc3Q$"), "{old}");
    let rotated = with(&[&second, &first]);
    let new = rotated.hash(secret("pass")).await.unwrap();
    for (stored, outdated) in [(&before, true), (&old, true), (&new, false)] {
        assert_eq!(
            rotated.verify(secret("pass"), stored).await,
            Ok(Verification { matches: true, outdated }),
            "{stored}"
        );
        assert_eq!(rotated.verify(secret("past"), stored).await.map(|v| v.matches), Ok(false));
    }
    assert_eq!(with(&[&second]).verify(secret("pass"), &old).await, Err(HashError::PepperMissing("first".to_owned())));
    let other = Pepper::new("first", b"not the same secret");
    assert_eq!(with(&[&other]).verify(secret("pass"), &old).await.map(|v| v.matches), Ok(false));
    assert!(matches!(
        HashPool::new(Options { peppers: vec![Pepper::new("far too long", b"x")], ..cheap() }),
        Err(HashError::Options(_))
    ));
}

#[tokio::test]
async fn changed_parameters_are_noticed() {
    let old = pool(cheap()).hash(secret("pass")).await.unwrap();
    let (start, output) = old.rsplit_once('$').unwrap();
    let longer = format!("{start}${output}{}", "A".repeat(3));
    assert!(pool(cheap()).verify(secret("pass"), &longer).await.unwrap().outdated, "a hash of another length");
    for options in [
        Options { memory_kib: 128, ..cheap() },
        Options { time_cost: 2, ..cheap() },
        Options { parallelism: 2, ..cheap() },
    ] {
        let found = pool(options).verify(secret("pass"), &old).await;
        assert_eq!(found, Ok(Verification { matches: true, outdated: true }));
    }
}

#[tokio::test]
async fn passwords_that_look_the_same_are_the_same() {
    let pool = pool(cheap());
    let (composed, decomposed) = ("Grüße-\u{ac00}", "Gru\u{308}ße-\u{1100}\u{1161}");
    let stored = pool.hash(secret(decomposed)).await.unwrap();
    assert_eq!(pool.verify(secret(composed), &stored).await, Ok(Verification { matches: true, outdated: false }));
    assert_eq!(pool.verify(secret(decomposed), &stored).await, Ok(Verification { matches: true, outdated: false }));
    // A hash from elsewhere, of the bytes as they were typed: argon2-cffi, password "Gru\u308ße-\u1100\u1161".
    let foreign = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$V7lQO6fj7umNqRCYxteYj7IyH1OnmzzS7yvOwyZsXa8";
    assert_eq!(pool.verify(secret(decomposed), foreign).await, Ok(Verification { matches: true, outdated: true }));
    assert_eq!(pool.verify(secret(composed), foreign).await.map(|v| v.matches), Ok(false));
}

#[tokio::test]
async fn what_was_accepted_once_still_verifies_and_damage_is_refused() {
    let stored = pool(Options { memory_kib: 2048, ..cheap() }).hash(secret("pass")).await.unwrap();
    let limits = Limits { memory_kib: 1024, ..Limits::default() };
    let pool = pool(Options { limits, ..cheap() });
    assert!(matches!(pool.check_importable(&stored), Err(ImportError::OutOfBounds { value: 2048, max: 1024, .. })));
    assert_eq!(pool.verify(secret("pass"), &stored).await, Ok(Verification { matches: true, outdated: true }));
    let refused = pool.verify(secret("pass"), &stored.replace("m=2048", "m=1048577")).await.unwrap_err();
    assert!(matches!(refused, HashError::Stored(ImportError::OutOfBounds { value: 1_048_577, .. })), "{refused}");
    assert!(matches!(pool.verify(secret("pass"), "hunter2").await, Err(HashError::Stored(ImportError::UnknownFormat))));
}

#[tokio::test]
async fn costs_that_argon2_does_not_allow_are_refused_at_start() {
    for options in [
        Options { memory_kib: 7, ..cheap() },
        Options { time_cost: 0, ..cheap() },
        Options { parallelism: 0, ..cheap() },
        Options { parallelism: 9, ..cheap() },
    ] {
        let refused = HashPool::new(options).unwrap_err().to_string();
        assert!(refused.starts_with("password.hashing: Argon2 does not allow these costs"), "{refused}");
    }
}

/// Keeps the only thread busy until the sender is dropped.
fn block(pool: &HashPool) -> mpsc::Sender<()> {
    let (release, until) = mpsc::channel();
    pool.inner.queue.push(Job { work: Box::new(move |_| _ = until.recv()), permits: Vec::new() });
    release
}

#[tokio::test]
async fn dropped_futures_leave_nothing_behind() {
    let seen = Arc::new(AtomicUsize::new(0));
    let observer: crate::hashing::Observer = {
        let seen = Arc::clone(&seen);
        Arc::new(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
        })
    };
    let pool = pool(Options { threads: 1, queue: 3, observer: Some(observer), ..cheap() });
    let release = block(&pool);
    // Four find a place, the rest wait for one: all of them give up.
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.hash(secret("pass")).await })
        })
        .collect();
    while pool.pending() < 4 {
        tokio::task::yield_now().await;
    }
    for task in &waiting {
        task.abort();
    }
    for task in waiting {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    assert_eq!(pool.pending(), 4, "their jobs still lie in the queue");
    drop(release);
    let stored = pool.hash(secret("pass")).await.unwrap();
    assert!(pool.verify(secret("pass"), &stored).await.unwrap().matches);
    while pool.pending() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 2, "those that were waited for; abandoned jobs cost nothing");
}

#[tokio::test]
async fn a_full_queue_makes_callers_wait() {
    let pool = pool(Options { threads: 1, queue: 1, ..cheap() });
    let release = block(&pool);
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let waiting = pool.clone();
        tasks.push(tokio::spawn(async move { waiting.hash(secret("pass")).await }));
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.pending(), 2);
    assert!(tasks.iter().all(|task| !task.is_finished()));
    drop(release);
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
}

#[test]
fn who_comes_first_is_served_first() {
    let pool = pool(Options { threads: 1, ..cheap() });
    let release = block(&pool);
    let (served, order) = mpsc::channel();
    for n in 0..3 {
        let served = served.clone();
        pool.inner.queue.push(Job { work: Box::new(move |_| served.send(n).unwrap()), permits: Vec::new() });
    }
    drop((release, served));
    assert_eq!(order.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_queue_tells_that_it_is_quiet_or_closed() {
    let queue = Queue::default();
    assert!(matches!(queue.pop(Some(Duration::from_millis(1))), Next::Quiet));
    queue.push(Job { work: Box::new(|_| ()), permits: Vec::new() });
    assert!(matches!(queue.pop(None), Next::Job(_)));
    queue.close();
    assert!(matches!(queue.pop(None), Next::Closed));
}

#[tokio::test]
async fn what_is_objected_to_is_not_hashed() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let observer: crate::hashing::Observer = Arc::new(move |_| _ = counted.fetch_add(1, Ordering::SeqCst));
    let pool = pool(Options { observer: Some(observer), ..cheap() });
    let judge = |password: &SecretString| {
        let thread = std::thread::current().name().unwrap().to_owned();
        if password.expose_secret() == "good" { Ok(()) } else { Err(thread) }
    };
    let refused = pool.hash_if(secret("bad"), judge).await.unwrap().unwrap_err();
    assert!(refused.starts_with("hash-"), "judged by {refused}");
    assert_eq!(seen.load(Ordering::SeqCst), 0);
    let stored = pool.hash_if(secret("good"), judge).await.unwrap().unwrap();
    assert!(pool.verify(secret("good"), &stored).await.unwrap().matches);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_panic_fails_its_own_job_only() {
    let pool = pool(Options { threads: 1, queue: 1, ..cheap() });
    for _ in 0..5 {
        let failed = pool.submit(None, |_| -> () { panic!("as a bug would") }).await;
        assert_eq!(failed, Err(HashError::Failed("the hashing thread failed")));
    }
    assert!(pool.hash(secret("pass")).await.is_ok());
}

#[tokio::test]
async fn threads_end_with_the_pool() {
    let pool = pool(cheap());
    let options = Arc::downgrade(&pool.inner.shared);
    let clone = pool.clone();
    drop(pool);
    assert!(clone.hash(secret("pass")).await.is_ok());
    drop(clone);
    while options.upgrade().is_some() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn slow_hashes_leave_threads_to_the_others() {
    let pool = pool(Options { threads: 4, ..cheap() });
    let slow = "$2b$12$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";
    let places = [Arc::clone(&pool.inner.slow), Arc::clone(&pool.inner.slow)];
    let taken: Vec<_> = places.into_iter().map(|place| place.try_acquire_owned().unwrap()).collect();
    assert_eq!(pool.inner.slow.available_permits(), 0, "half of the threads");
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.verify(secret("correct horse"), slow).await }
    });
    tokio::task::yield_now().await;
    let quick = slow.replace("$12$", "$04$");
    assert!(pool.verify(secret("correct horse"), &quick).await.unwrap().matches);
    assert!(!waiting.is_finished(), "it has no place yet");
    drop(taken);
    assert!(!waiting.await.unwrap().unwrap().matches);
}

#[tokio::test]
async fn peppers_are_exchanged_while_it_runs() {
    let (first, second) = (Pepper::new("first", b"one secret"), Pepper::new("second", b"another one"));
    let pool = pool(Options { peppers: vec![first.clone()], ..cheap() });
    let old = pool.hash(secret("pass")).await.unwrap();
    // Known to all daemons first, used by them afterwards.
    pool.set_peppers(vec![second.clone().on_standby(true), first.clone()]).unwrap();
    let meanwhile = pool.hash(secret("pass")).await.unwrap();
    assert!(meanwhile.contains(",keyid=Zmlyc3Q$"), "{meanwhile}");
    pool.set_peppers(vec![second.clone(), first]).unwrap();
    let new = pool.hash(secret("pass")).await.unwrap();
    assert!(new.contains(",keyid=c2Vjb25k$"), "{new}");
    for (stored, outdated) in [(&old, true), (&meanwhile, true), (&new, false)] {
        assert_eq!(pool.verify(secret("pass"), stored).await, Ok(Verification { matches: true, outdated }));
    }
    assert!(pool.set_peppers(vec![Pepper::new("far too long", b"x")]).is_err());
    assert!(pool.verify(secret("pass"), &new).await.unwrap().matches, "the old ones stay");
    pool.set_peppers(vec![second.on_standby(true)]).unwrap();
    assert!(!pool.hash(secret("pass")).await.unwrap().contains("keyid"), "no pepper is in use yet");
}

#[tokio::test]
async fn large_hashes_go_one_at_a_time() {
    let pool = pool(Options { threads: 1, ..cheap() });
    let stored = pool.hash(secret("pass")).await.unwrap();
    let large = Arc::clone(&pool.inner.large).acquire_owned().await.unwrap();
    let waiting = tokio::spawn({
        let (pool, stored) = (pool.clone(), stored.replace("m=64", "m=4096"));
        async move { pool.verify(secret("pass"), &stored).await }
    });
    tokio::task::yield_now().await;
    // Ours overtake it: with one thread, it would be done before them otherwise.
    assert!(pool.verify(secret("pass"), &stored).await.unwrap().matches);
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(large);
    assert_eq!(waiting.await.unwrap(), Ok(Verification { matches: false, outdated: true }));
}

#[tokio::test]
async fn it_is_known_when_somebody_else_had_something_to_do() {
    let pool = pool(cheap());
    assert_eq!(pool.inner.shared.since_others(), None);
    pool.make_way();
    assert!(pool.inner.shared.since_others().is_some());
}
