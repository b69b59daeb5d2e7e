//! Histories as text, for checkers that are not this crate: one JSON object per line, described in `docs/history.md`.

use std::fmt::{self, Display};
use std::io::{self, Write};

use crate::models::{
    Entry, EntryInput, EntryOutput, Queue, QueueInput, QueueOutput, Register, RegisterInput,
    RegisterOutput,
};
use crate::{History, Model, Operation};

/// A value in an exported history, which displays as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer; no digit is lost, so a reader must not take it for a floating-point number.
    Integer(i128),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Value>),
}

impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Integer(value) => write!(f, "{value}"),
            Value::Text(text) => {
                f.write_str("\"")?;
                for c in text.chars() {
                    match c {
                        '"' | '\\' => write!(f, "\\{c}")?,
                        c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                        c => write!(f, "{c}")?,
                    }
                }
                f.write_str("\"")
            }
            Value::List(values) => {
                f.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}

macro_rules! integers {
    ($($integer:ty),+) => {$(
        impl From<$integer> for Value {
            fn from(value: $integer) -> Self {
                Value::Integer(value.into())
            }
        }
    )+};
}

integers!(u8, u32, u64, i64);

impl From<String> for Value {
    fn from(value: String) -> Self {
        Value::Text(value)
    }
}

impl<V: Into<Value>> From<Option<V>> for Value {
    fn from(value: Option<V>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

/// A model whose calls have names and values that other programs understand.
pub trait Export: Model {
    /// The name of the kind of object.
    const TYPE: &'static str;

    /// The object's first value, if it is not the one that `docs/history.md` names.
    fn initial(&self) -> Option<Value>;

    /// The name of an operation, and its arguments.
    fn operation(input: &Self::Input) -> (&'static str, Vec<Value>);

    /// The result of a call that was answered.
    fn result(output: &Self::Output) -> Value;
}

/// Writes a history: a line for each call, in the order of the list. Several histories may follow each other in one file
/// if their objects have different names; `name` names an object.
///
/// # Errors
///
/// Those of `out`.
///
/// ```
/// use crucial_linear::models::{Register, RegisterInput, RegisterOutput};
/// use crucial_linear::{History, Operation, write_history};
///
/// let add = Operation::called(3, "hits", RegisterInput::FetchAdd(5), 17);
/// let history = History::from(vec![add.returned(RegisterOutput::Value(12), 20)]);
/// let mut text = Vec::new();
/// write_history(&history, &Register(0), |object| object.to_string(), &mut text)?;
/// assert_eq!(
///     String::from_utf8(text)?,
///     "{\"client\":3,\"object\":\"hits\",\"type\":\"register\",\"operation\":\"fetch_add\",\
///      \"arguments\":[5],\"start\":17,\"end\":20,\"result\":12}\n"
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn write_history<K, M: Export>(
    history: &History<K, M::Input, M::Output>,
    model: &M,
    name: impl Fn(&K) -> String,
    out: &mut impl Write,
) -> io::Result<()> {
    for operation in history.operations() {
        let object = Value::Text(name(&operation.object));
        write_call(operation, model, &object, out)?;
    }
    Ok(())
}

fn write_call<K, M: Export>(
    call: &Operation<K, M::Input, M::Output>,
    model: &M,
    object: &Value,
    out: &mut impl Write,
) -> io::Result<()> {
    let Operation {
        process, called, ..
    } = call;
    let (operation, arguments) = M::operation(&call.input);
    let (kind, arguments) = (M::TYPE, Value::List(arguments));
    write!(
        out,
        "{{\"client\":{process},\"object\":{object},\"type\":\"{kind}\""
    )?;
    if let Some(initial) = model.initial() {
        write!(out, ",\"initial\":{initial}")?;
    }
    write!(
        out,
        ",\"operation\":\"{operation}\",\"arguments\":{arguments},\"start\":{called}"
    )?;
    match &call.answer {
        Some((output, returned)) => {
            let result = M::result(output);
            writeln!(out, ",\"end\":{returned},\"result\":{result}}}")
        }
        None => writeln!(out, ",\"end\":null}}"),
    }
}

impl Export for Register {
    const TYPE: &'static str = "register";

    fn initial(&self) -> Option<Value> {
        (self.0 != 0).then(|| self.0.into())
    }

    fn operation(input: &RegisterInput) -> (&'static str, Vec<Value>) {
        match *input {
            RegisterInput::Load => ("load", vec![]),
            RegisterInput::Store(value) => ("store", vec![value.into()]),
            RegisterInput::Swap(value) => ("swap", vec![value.into()]),
            RegisterInput::FetchAdd(more) => ("fetch_add", vec![more.into()]),
            RegisterInput::CompareExchange { current, new } => {
                ("compare_exchange", vec![current.into(), new.into()])
            }
        }
    }

    fn result(output: &RegisterOutput) -> Value {
        match *output {
            RegisterOutput::Done => Value::Null,
            RegisterOutput::Value(value) => value.into(),
            RegisterOutput::Exchanged(Ok(value)) => exchanged(true, value),
            RegisterOutput::Exchanged(Err(value)) => exchanged(false, value),
        }
    }
}

fn exchanged(is_replaced: bool, previous: i64) -> Value {
    Value::List(vec![Value::Bool(is_replaced), previous.into()])
}

impl<T> Export for Queue<T>
where
    Queue<T>: Model<Input = QueueInput<T>, Output = QueueOutput<T>>,
    T: Clone + Into<Value>,
{
    const TYPE: &'static str = "queue";

    fn initial(&self) -> Option<Value> {
        None
    }

    fn operation(input: &QueueInput<T>) -> (&'static str, Vec<Value>) {
        match input {
            QueueInput::Push(value) => ("push", vec![value.clone().into()]),
            QueueInput::TryPop => ("try_pop", vec![]),
            QueueInput::Pop => ("pop", vec![]),
        }
    }

    fn result(output: &QueueOutput<T>) -> Value {
        match output {
            QueueOutput::Done | QueueOutput::Empty => Value::Null,
            QueueOutput::Popped(value) => value.clone().into(),
        }
    }
}

impl<V> Export for Entry<V>
where
    Entry<V>: Model<Input = EntryInput<V>, Output = EntryOutput<V>>,
    V: Clone + Into<Value>,
{
    const TYPE: &'static str = "entry";

    fn initial(&self) -> Option<Value> {
        None
    }

    fn operation(input: &EntryInput<V>) -> (&'static str, Vec<Value>) {
        match input {
            EntryInput::Get => ("get", vec![]),
            EntryInput::Insert(value) => ("insert", vec![value.clone().into()]),
            EntryInput::Remove => ("remove", vec![]),
            EntryInput::CompareAndSet { current, new } => (
                "compare_and_set",
                vec![current.clone().into(), new.clone().into()],
            ),
        }
    }

    fn result(output: &EntryOutput<V>) -> Value {
        match output {
            EntryOutput::Value(value) => value.clone().into(),
            EntryOutput::Set(is_set) => Value::Bool(*is_set),
        }
    }
}
