//! The part of Python's pickle machine that a tensor needs.

use std::{collections::BTreeMap, rc::Rc};

use safetensors::Dtype;

use super::{Described, Storage, TorchTensorError, archive::number, unreadable};

/// A pickle of one tensor has some 300 bytes.
const MAX_PICKLE: usize = 4096;
/// What can lie on the machine's stack.
#[derive(Debug, Clone)]
enum Value {
    Mark,
    Int(i64),
    Bool,
    Text(Rc<str>),
    /// Shared: a pickle may name one value many times.
    Tuple(Rc<[Value]>),
    /// `collections.OrderedDict`, or an empty dictionary: the hooks of a tensor, of which there are none.
    Empty,
    RebuildTensor,
    OrderedDict,
    StorageClass(Dtype),
    Storage(Rc<Storage>),
    Tensor(Rc<Described>),
}

/// Executes a pickle, as far as a tensor needs it.
pub(super) struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    memo: BTreeMap<usize, Value>,
}

impl<'a> Machine<'a> {
    /// What a pickle describes.
    pub(super) fn run(pickle: &'a [u8]) -> Result<Described, TorchTensorError> {
        if pickle.len() > MAX_PICKLE {
            return Err(unreadable(format!("its pickle has {} bytes, a tensor's at most {MAX_PICKLE}", pickle.len())));
        }
        let mut machine = Machine { rest: pickle, stack: vec![], memo: BTreeMap::new() };
        loop {
            match machine.step()? {
                None => {}
                Some(Value::Tensor(tensor)) => return Ok((*tensor).clone()),
                Some(_) => return Err(unreadable("its pickle describes something else than a tensor")),
            }
        }
    }

    /// One instruction; the last one gives what the pickle describes.
    fn step(&mut self) -> Result<Option<Value>, TorchTensorError> {
        match self.byte()? {
            // PROTO
            0x80 => {
                let version = self.byte()?;
                if version != 2 {
                    return Err(unreadable(format!("its pickle has protocol {version}, expected 2")));
                }
            }
            // STOP
            b'.' => return Ok(Some(self.pop()?)),
            // MARK, then values, then TUPLE
            b'(' => self.stack.push(Value::Mark),
            b't' => {
                let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).ok_or_else(broken)?;
                let items: Rc<[Value]> = self.stack.drain(mark..).skip(1).collect();
                self.stack.push(Value::Tuple(items));
            }
            // EMPTY_TUPLE, TUPLE1, TUPLE2, TUPLE3
            b')' => self.tuple(0)?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            // EMPTY_DICT
            b'}' => self.stack.push(Value::Empty),
            // BININT1, BININT2, BININT
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let digits = self.take(4)?;
                let value = i32::from_le_bytes(digits.try_into().map_err(|_| broken())?);
                self.stack.push(Value::Int(value.into()));
            }
            // LONG1, for sizes beyond 31 bits
            0x8a => {
                let len = usize::from(self.byte()?);
                let digits = self.take(len)?;
                let positive = digits.last().is_none_or(|&highest| highest < 0x80);
                let value = number(digits, 0, len).filter(|_| positive);
                self.stack.push(Value::Int(value.and_then(|value| i64::try_from(value).ok()).ok_or_else(broken)?));
            }
            // NEWTRUE, NEWFALSE
            0x88 | 0x89 => self.stack.push(Value::Bool),
            // BINUNICODE
            b'X' => {
                let len = number(self.take(4)?, 0, 4).ok_or_else(broken)?;
                let text = std::str::from_utf8(self.take(len)?).map_err(|_| broken())?;
                self.stack.push(Value::Text(text.into()));
            }
            // BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
            b'q' => self.put(1)?,
            b'r' => self.put(4)?,
            b'h' => self.get(1)?,
            b'j' => self.get(4)?,
            // GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(known(module, name)?);
            }
            // BINPERSID
            b'Q' => {
                let storage = storage(&self.pop()?).ok_or_else(broken)?;
                self.stack.push(Value::Storage(storage.into()));
            }
            // REDUCE
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                let built = call(&callable, &arguments).ok_or_else(broken)?;
                self.stack.push(built);
            }
            other => {
                return Err(unreadable(format!("its pickle has the instruction {other:#04x}, which no tensor needs")));
            }
        }
        Ok(None)
    }

    fn byte(&mut self) -> Result<u8, TorchTensorError> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], TorchTensorError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(broken)?;
        self.rest = rest;
        Ok(taken)
    }

    fn line(&mut self) -> Result<&'a str, TorchTensorError> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').ok_or_else(broken)?;
        let line = self.take(end)?;
        self.take(1)?;
        std::str::from_utf8(line).map_err(|_| broken())
    }

    fn pop(&mut self) -> Result<Value, TorchTensorError> {
        self.stack.pop().ok_or_else(broken)
    }

    fn int(&mut self, len: usize) -> Result<(), TorchTensorError> {
        let value = number(self.take(len)?, 0, len).ok_or_else(broken)?;
        self.stack.push(Value::Int(value as i64));
        Ok(())
    }

    fn tuple(&mut self, len: usize) -> Result<(), TorchTensorError> {
        let first = self.stack.len().checked_sub(len).ok_or_else(broken)?;
        let items: Rc<[Value]> = self.stack.drain(first..).collect();
        self.stack.push(Value::Tuple(items));
        Ok(())
    }

    fn put(&mut self, len: usize) -> Result<(), TorchTensorError> {
        let key = number(self.take(len)?, 0, len).ok_or_else(broken)?;
        let value = self.stack.last().ok_or_else(broken)?.clone();
        self.memo.insert(key, value);
        Ok(())
    }

    fn get(&mut self, len: usize) -> Result<(), TorchTensorError> {
        let key = number(self.take(len)?, 0, len).ok_or_else(broken)?;
        let value = self.memo.get(&key).ok_or_else(broken)?.clone();
        self.stack.push(value);
        Ok(())
    }
}

fn broken() -> TorchTensorError {
    unreadable("its pickle is broken")
}

/// The names that a tensor needs; no other one is ever looked at.
fn known(module: &str, name: &str) -> Result<Value, TorchTensorError> {
    Ok(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Value::RebuildTensor,
        ("collections", "OrderedDict") => Value::OrderedDict,
        ("torch", "DoubleStorage") => Value::StorageClass(Dtype::F64),
        ("torch", "FloatStorage") => Value::StorageClass(Dtype::F32),
        ("torch", "HalfStorage") => Value::StorageClass(Dtype::F16),
        ("torch", "BFloat16Storage") => Value::StorageClass(Dtype::BF16),
        (module, name) => {
            return Err(TorchTensorError::Code { name: format!("{module}.{name}").escape_default().to_string() });
        }
    })
}

/// `('storage', class, key, location, number of elements)`
fn storage(id: &Value) -> Option<Storage> {
    let Value::Tuple(fields) = id else { return None };
    match &fields[..] {
        [Value::Text(kind), Value::StorageClass(dtype), Value::Text(key), Value::Text(_), Value::Int(_)]
            if &**kind == "storage" =>
        {
            Some(Storage { dtype: *dtype, key: key.to_string() })
        }
        _ => None,
    }
}

/// `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`, or an empty `OrderedDict`.
fn call(callable: &Value, arguments: &Value) -> Option<Value> {
    let Value::Tuple(arguments) = arguments else { return None };
    let sizes = |value: &Value| match value {
        Value::Tuple(items) => items.iter().map(size).collect::<Option<Vec<usize>>>(),
        _ => None,
    };
    match (callable, &arguments[..]) {
        (Value::OrderedDict, []) => Some(Value::Empty),
        (Value::RebuildTensor, [Value::Storage(storage), offset, shape, strides, Value::Bool, Value::Empty]) => {
            let (offset, shape, strides) = (size(offset)?, sizes(shape)?, sizes(strides)?);
            let tensor = Described { storage: (**storage).clone(), offset, shape, strides };
            (tensor.shape.len() == tensor.strides.len()).then(|| Value::Tensor(tensor.into()))
        }
        _ => None,
    }
}

fn size(value: &Value) -> Option<usize> {
    if let Value::Int(value) = value { usize::try_from(*value).ok() } else { None }
}
