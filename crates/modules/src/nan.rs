//! Makes NaNs canonical where a program can observe their bits.
//!
//! WebAssembly does not define the bits of a NaN that arithmetic produces, and processors differ. The compiler can
//! make every NaN canonical, at the cost of a comparison after each operation. But arithmetic ignores these bits:
//! they can be observed only in a value that is stored, reinterpreted as an integer, passed to a function, or
//! returned. So this pass follows each value from the instruction that produces it ([`dataflow`]), and inserts a
//! comparison only after those arithmetic instructions whose results are observed. A value that is merely moved
//! keeps its bits.
//!
//! The pass runs on untrusted uploads: it validates its input, takes time and memory in proportion to the input's
//! size, and changes nothing else. The compiler validates the output again.

mod dataflow;
mod effect;
mod origin;
#[cfg(test)]
mod tests;

use wasmparser::{
    BinaryReaderError as Error, FuncToValidate, FuncValidatorAllocations, FunctionBody, Parser,
    Payload, ValType, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use dataflow::{DataFlow, Mark, Shape};

/// The version of this pass. It must change with the output of [`canonicalize`], so that cached modules that were
/// compiled from another output are not used.
pub(crate) const VERSION: u32 = 1;

/// The features of WebAssembly that a module may use: no threads, nothing that differs between machines, and nothing
/// that needs a garbage collector.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::WASM3
    .difference(WasmFeatures::RELAXED_SIMD)
    .difference(WasmFeatures::THREADS)
    .difference(WasmFeatures::EXCEPTIONS)
    .difference(WasmFeatures::GC_TYPES);

/// Returns the module with canonical NaNs. Of the custom sections only the names are kept.
///
/// # Errors
///
/// If the bytes are not a valid module with [`FEATURES`].
pub(crate) fn canonicalize(module: &[u8]) -> Result<Vec<u8>, Error> {
    let mut analyzer = Analyzer::default();
    rewrite(module, CANONICAL, |function, body| {
        analyzer.find_marks(function, body)
    })
}

/// The bits of a NaN in both widths.
#[derive(Clone, Copy)]
struct Nan(u32, u64);

const CANONICAL: Nan = Nan(0x7fc0_0000, 0x7ff8_0000_0000_0000);

/// Returns the module with `nan` in place of other NaNs after the marked instructions. `find` returns the number of a
/// function's locals and its marks.
fn rewrite(
    module: &[u8],
    nan: Nan,
    mut find: impl FnMut(
        FuncToValidate<ValidatorResources>,
        &FunctionBody<'_>,
    ) -> Result<(u32, Vec<Mark>), Error>,
) -> Result<Vec<u8>, Error> {
    let mut validator = Validator::new_with_features(FEATURES);
    let mut parser = Parser::new(0);
    parser.set_features(FEATURES);
    // The contents of the new code section, while the old one is read.
    let mut code: Option<Vec<u8>> = None;
    let mut out = Vec::with_capacity(module.len());
    for payload in parser.parse_all(module) {
        let payload = payload?;
        let valid = validator.payload(&payload)?;
        if let ValidPayload::Func(function, body) = valid {
            let (locals, marks) = find(function, &body)?;
            let bytes = &module[body.range()];
            let bodies = code.get_or_insert_default();
            if marks.is_empty() {
                write_sized(bytes, bodies);
            } else {
                write_sized(&with_marks(&body, bytes, locals, &marks, nan)?, bodies);
            }
            continue;
        }
        if let Some(bodies) = code.take() {
            write_section(CODE, &bodies, &mut out);
        }
        match &payload {
            Payload::Version { range, .. } => out.extend_from_slice(&module[range.clone()]),
            Payload::CodeSectionStart { count, .. } => {
                write_unsigned(*count, code.get_or_insert_default());
            }
            // Other custom sections may contain positions in the code, which would be wrong now.
            Payload::CustomSection(custom) if custom.name() != "name" => {}
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    write_section(id, &module[range], &mut out);
                }
            }
        }
    }
    Ok(out)
}

/// Returns a function's body with a comparison at each mark.
fn with_marks(
    body: &FunctionBody<'_>,
    bytes: &[u8],
    locals: u32,
    marks: &[Mark],
    nan: Nan,
) -> Result<Vec<u8>, Error> {
    let begin = body.range().start;
    let groups = body.get_locals_reader()?;
    let (count, first_group) = (groups.get_count(), groups.original_position() - begin);
    let first_operator = body.get_operators_reader()?.original_position() - begin;
    let scratch = Scratch::new(locals, marks);
    let mut out = Vec::with_capacity(2 * bytes.len());
    write_unsigned(count + scratch.groups(), &mut out);
    out.extend_from_slice(&bytes[first_group..first_operator]);
    scratch.declare(&mut out);
    let mut copied = first_operator;
    for mark in marks {
        let end = mark.end - begin;
        out.extend_from_slice(&bytes[copied..end]);
        scratch.compare(mark.shape, nan, &mut out);
        copied = end;
    }
    out.extend_from_slice(&bytes[copied..]);
    Ok(out)
}

const CODE: u8 = 10;

fn write_section(id: u8, contents: &[u8], out: &mut Vec<u8>) {
    out.push(id);
    write_sized(contents, out);
}

/// Writes the length of the bytes, and the bytes.
fn write_sized(bytes: &[u8], out: &mut Vec<u8>) {
    // The length fits in 32 bits, since modules are much smaller. A truncated length would be refused by the compiler.
    write_unsigned(bytes.len() as u32, out);
    out.extend_from_slice(bytes);
}

/// Writes a number as LEB128.
fn write_unsigned(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Finds the instructions to mark. Its memory is reused from one function to the next.
#[derive(Default)]
struct Analyzer {
    allocations: FuncValidatorAllocations,
    data_flow: DataFlow,
}

impl Analyzer {
    fn find_marks(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'_>,
    ) -> Result<(u32, Vec<Mark>), Error> {
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        self.data_flow.clear(validator.len_locals());
        validator.read_locals(&mut body.get_binary_reader())?;
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let position = operators.original_position();
            let operator = operators.read()?;
            let end = operators.original_position();
            self.data_flow
                .step(&mut validator, position, &operator, end)?;
        }
        operators.finish()?;
        let locals = validator.len_locals();
        self.allocations = validator.into_allocations();
        Ok((locals, self.data_flow.marks()))
    }
}

/// The additional locals that comparisons need: at most one of each type.
struct Scratch {
    /// The index of each local that is needed, in the order of [`SCRATCH_TYPES`].
    locals: [Option<u32>; 3],
}

const SCRATCH_TYPES: [ValType; 3] = [ValType::F32, ValType::F64, ValType::V128];

/// The index in [`SCRATCH_TYPES`] of the type that holds this shape.
fn scratch_index(shape: Shape) -> usize {
    match shape {
        Shape::F32 => 0,
        Shape::F64 => 1,
        Shape::F32x4 | Shape::F64x2 => 2,
    }
}

impl Scratch {
    /// Adds the locals that the marks need to a function with this number of locals.
    fn new(locals: u32, marks: &[Mark]) -> Scratch {
        let mut used = [false; 3];
        for mark in marks {
            used[scratch_index(mark.shape)] = true;
        }
        let mut next = locals..;
        Scratch {
            locals: used.map(|used| used.then(|| next.next()).flatten()),
        }
    }

    fn groups(&self) -> u32 {
        self.locals.iter().flatten().count() as u32
    }

    fn declare(&self, out: &mut Vec<u8>) {
        for (local, ty) in self.locals.iter().zip(SCRATCH_TYPES) {
            if local.is_some() {
                let code = match ty {
                    ValType::F32 => 0x7d,
                    ValType::F64 => 0x7c,
                    _ => 0x7b,
                };
                out.extend([1, code]);
            }
        }
    }

    /// Writes `if value == value { value } else { NaN }` for each lane of the value on the top of the stack.
    fn compare(&self, shape: Shape, nan: Nan, out: &mut Vec<u8>) {
        // `new` has seen every mark, so that the local exists.
        let Some(local) = self.locals[scratch_index(shape)] else {
            return;
        };
        let Nan(nan_32, nan_64) = nan;
        out.push(0x22); // local.tee
        write_unsigned(local, out);
        match shape {
            Shape::F32 => {
                out.push(0x43); // f32.const
                out.extend(nan_32.to_le_bytes());
            }
            Shape::F64 => {
                out.push(0x44); // f64.const
                out.extend(nan_64.to_le_bytes());
            }
            Shape::F32x4 => {
                out.extend([0xfd, 0x0c]); // v128.const
                (0..4).for_each(|_| out.extend(nan_32.to_le_bytes()));
            }
            Shape::F64x2 => {
                out.extend([0xfd, 0x0c]); // v128.const
                (0..2).for_each(|_| out.extend(nan_64.to_le_bytes()));
            }
        }
        for _ in 0..2 {
            out.push(0x20); // local.get
            write_unsigned(local, out);
        }
        out.extend_from_slice(match shape {
            Shape::F32 => &[0x5b, 0x1b],               // f32.eq, select
            Shape::F64 => &[0x61, 0x1b],               // f64.eq, select
            Shape::F32x4 => &[0xfd, 0x41, 0xfd, 0x52], // f32x4.eq, v128.bitselect
            Shape::F64x2 => &[0xfd, 0x47, 0xfd, 0x52], // f64x2.eq, v128.bitselect
        });
    }
}
