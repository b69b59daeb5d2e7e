//! A simulation of processes that call one object, and a check that tries all orders.

use crucial_linear::{Model, Operation};

use crate::objects::Object;

pub type Input<T> = <<T as Object>::Model as Model>::Input;
pub type Output<T> = <<T as Object>::Model as Model>::Output;
pub type Call<T> = Operation<(), Input<T>, Output<T>>;
pub type Log<T> = Vec<Call<T>>;

/// The state of a process.
enum Process<T: Object> {
    Idle,
    /// The operation with this number has not taken effect yet.
    Called(usize),
    /// The operation has taken effect, with this output.
    Performed(usize, Output<T>),
}

/// Simulates processes. Each choice lets one process make a step: call, take effect, return, or lose the answer.
pub fn simulate<T: Object>(processes: u64, operations_max: usize, choices: &[u8]) -> Log<T> {
    let mut object = T::default();
    let mut log: Log<T> = Vec::new();
    let mut states: Vec<Process<T>> = (0..processes).map(|_| Process::Idle).collect();
    for (time, &choice) in choices.iter().enumerate() {
        let time = time as u64;
        let process = u64::from(choice) % processes;
        let state = &mut states[process as usize];
        let lost = choice > 247;
        *state = match std::mem::replace(state, Process::Idle) {
            Process::Idle if log.len() < operations_max => {
                let input = object.input(choice / 8);
                log.push(Operation::called(process, (), input, time));
                Process::Called(log.len() - 1)
            }
            Process::Idle => Process::Idle,
            _ if lost => Process::Idle,
            Process::Called(number) => match object.perform(&log[number].input) {
                Some(output) => Process::Performed(number, output),
                None => Process::Called(number),
            },
            Process::Performed(number, output) => {
                log[number].answer = Some((output, time));
                Process::Idle
            }
        };
    }
    log
}

/// Changes the output of one operation, if any can be changed.
pub fn tamper<T: Object>(log: &mut Log<T>, which: u8, how: u8) {
    let wrong: Vec<(usize, Output<T>)> = log
        .iter()
        .enumerate()
        .filter_map(|(number, call)| Some((number, T::wrong(&call.answer.as_ref()?.0, how)?)))
        .collect();
    if wrong.is_empty() {
        return;
    }
    let index = usize::from(which) % wrong.len();
    for (number, output) in wrong.into_iter().skip(index).take(1) {
        if let Some(answer) = &mut log[number].answer {
            answer.0 = output;
        }
    }
}

/// The log as it was at the tick `end`.
pub fn cut<T: Object>(log: &Log<T>, end: u64) -> Log<T> {
    log.iter()
        .filter(|call| call.called <= end)
        .map(|call| {
            let mut call = call.clone();
            call.answer = call.answer.filter(|answer| answer.1 <= end);
            call
        })
        .collect()
}

/// Whether the real object allows no order of all answered and any unanswered operations, by trying all orders.
pub fn all_orders_fail<T: Object>(log: &Log<T>) -> bool {
    let mut order = Vec::new();
    !some_order_is_right::<T>(log, &mut order)
}

fn some_order_is_right<T: Object>(log: &Log<T>, order: &mut Vec<usize>) -> bool {
    let missing = |number: &usize| !order.contains(number);
    let complete = (0..log.len())
        .filter(missing)
        .all(|number| log[number].answer.is_none());
    if complete && is_right::<T>(log, order) {
        return true;
    }
    let missing: Vec<usize> = (0..log.len()).filter(missing).collect();
    missing.into_iter().any(|number| {
        order.push(number);
        let right = some_order_is_right::<T>(log, order);
        order.pop();
        right
    })
}

fn is_right<T: Object>(log: &Log<T>, order: &[usize]) -> bool {
    let precedes = |a: &Call<T>, b: &Call<T>| {
        let answer = a.answer.as_ref();
        answer.is_some_and(|answer| answer.1 < b.called)
    };
    let in_time = order.iter().enumerate().all(|(index, &earlier)| {
        let mut later = order[index..].iter();
        later.all(|&later| !precedes(&log[later], &log[earlier]))
    });
    let mut object = T::default();
    in_time
        && order.iter().all(|&number| {
            let output = object.perform(&log[number].input);
            match &log[number].answer {
                Some((answer, _)) => output.as_ref() == Some(answer),
                None => output.is_some(),
            }
        })
}
