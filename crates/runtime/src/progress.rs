//! A progress bar on the terminal, for operations on many cloud threads.

#[cfg(feature = "progress")]
mod bar {
    use std::sync::Mutex;

    use indicatif::{ProgressBar, ProgressStyle};

    /// The bar on the terminal.
    static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

    pub(crate) struct Progress(ProgressBar);

    impl Progress {
        /// Shows a bar of `length` steps if standard error is a terminal.
        pub fn new(what: &str, length: u64) -> Progress {
            let bar = ProgressBar::new(length);
            if let Ok(style) =
                ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} [{elapsed} < {eta}]")
            {
                bar.set_style(style);
            }
            bar.set_message(what.to_owned());
            *shown() = Some(bar.clone());
            Progress(bar)
        }

        pub fn step(&self) {
            self.0.inc(1);
        }
    }

    impl Drop for Progress {
        fn drop(&mut self) {
            *shown() = None;
            self.0.finish_and_clear();
        }
    }

    fn shown() -> std::sync::MutexGuard<'static, Option<ProgressBar>> {
        SHOWN.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Hides the bar while `f` prints.
    pub(crate) fn suspended<R>(f: impl FnOnce() -> R) -> R {
        let bar = shown().clone();
        match bar {
            Some(bar) => bar.suspend(f),
            None => f(),
        }
    }
}

#[cfg(not(feature = "progress"))]
mod bar {
    pub(crate) struct Progress;

    impl Progress {
        pub fn new(_: &str, _: u64) -> Progress {
            Progress
        }

        pub fn step(&self) {}
    }

    pub(crate) fn suspended<R>(f: impl FnOnce() -> R) -> R {
        f()
    }
}

pub(crate) use bar::{Progress, suspended};
