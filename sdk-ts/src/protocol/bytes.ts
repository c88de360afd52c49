// Reading and writing the protocol buffer wire format, without reflection and without Node. What it means is codec.ts's.

import { AmxError, Code } from "../errors.js";

/** A number that names something: a bigint where a number would not be exact. Ids are compared and kept, never counted. */
export type Id = number | bigint;

/** The bytes are not what they should be. */
export class Malformed extends Error {}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

const SHORT = 48; // text up to this length is handled character by character: entering the text codecs costs more
const MAX_DEPTH = 100;
const HIGH = 4294967296; // 2^32

/** Fields of one message, one after the other. */
export class Reader {
  pos: number;
  end: number;
  readonly data: Uint8Array;

  constructor(data: Uint8Array, pos = 0, end = data.length) {
    this.data = data;
    this.pos = pos;
    this.end = end;
  }

  /** The tag of the next field: its number times 8, plus its wire type. 0 at the end. */
  tag(): number {
    if (this.pos >= this.end) return 0;
    const tag = this.data[this.pos]!;
    if (tag < 0x80) {
      if (tag < 8) throw new Malformed("field number 0");
      this.pos++;
      return tag;
    }
    const long = this.varint();
    if (long < 8 || long >= HIGH) throw new Malformed("a field number out of range");
    return long;
  }

  /** An unsigned number. What exceeds 2^53 loses precision; negative numbers come out as such. */
  varint(): number {
    const data = this.data;
    const end = this.end;
    let pos = this.pos;
    if (pos >= end) throw new Malformed("truncated");
    let byte = data[pos++]!;
    if (byte < 0x80) {
      this.pos = pos;
      return byte;
    }
    let low = byte & 0x7f;
    let shift = 7;
    while (shift < 28) {
      if (pos >= end) throw new Malformed("truncated");
      byte = data[pos++]!;
      low |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        this.pos = pos;
        return low;
      }
      shift += 7;
    }
    // 28 bits are in `low`; up to 42 more follow, of which 36 count.
    let high = 0;
    for (let factor = 1, count = 0; count < 6; factor *= 128, count++) {
      if (pos >= end) throw new Malformed("truncated");
      byte = data[pos++]!;
      high += (byte & 0x7f) * factor;
      if (byte < 0x80) {
        this.pos = pos;
        high %= 68719476736; // 2^36
        if (high >= 34359738368) high -= 68719476736; // the sign bit of 64
        return high * 268435456 + low;
      }
    }
    throw new Malformed("a number of more than ten bytes");
  }

  /** An unsigned number that must be exact and is counted with: a sequence number, a version. */
  count(): number {
    const value = this.varint();
    if (value < 0 || value > Number.MAX_SAFE_INTEGER) throw new Malformed("a number beyond 2^53");
    return value;
  }

  /** An id, an epoch, a nonce: as it is, of up to 64 bits. */
  id(): Id {
    const start = this.pos;
    const value = this.varint();
    if (value >= 0 && value <= Number.MAX_SAFE_INTEGER) return value;
    let exact = 0n;
    for (let at = start, shift = 0n; at < this.pos; at++, shift += 7n) exact |= BigInt(this.data[at]! & 0x7f) << shift;
    return BigInt.asUintN(64, exact);
  }

  bool(): boolean {
    return this.varint() !== 0;
  }

  int32(): number {
    return this.varint() | 0;
  }

  uint32(): number {
    const value = this.varint();
    return value < HIGH && value >= 0 ? value : value >>> 0;
  }

  /** Where a length-delimited field ends; reading begins at `pos`. */
  private limit(): number {
    const length = this.varint();
    const limit = this.pos + length;
    if (length < 0 || limit > this.end) throw new Malformed("truncated");
    return limit;
  }

  /** Narrows the reader to a nested message; give what this returns to `leave`. */
  enter(): number {
    const limit = this.limit();
    const outer = this.end;
    this.end = limit;
    return outer;
  }

  leave(outer: number): void {
    this.pos = this.end;
    this.end = outer;
  }

  /** A view of the bytes: it lives and changes with what is read. */
  bytes(): Uint8Array {
    const limit = this.limit();
    const view = this.data.subarray(this.pos, limit);
    this.pos = limit;
    return view;
  }

  string(): string {
    const limit = this.limit();
    const data = this.data;
    let pos = this.pos;
    if (limit - pos <= SHORT) {
      let text = "";
      for (; pos < limit; pos++) {
        const byte = data[pos]!;
        if (byte >= 0x80) break;
        text += String.fromCharCode(byte);
      }
      if (pos === limit) {
        this.pos = limit;
        return text;
      }
    }
    const view = data.subarray(this.pos, limit);
    this.pos = limit;
    try {
      return utf8.decode(view);
    } catch {
      throw new Malformed("text that is not UTF-8");
    }
  }

  /** Adds the numbers of a repeated field, packed or not. */
  ids(tag: number, into: Id[]): void {
    if ((tag & 7) === 2) {
      const outer = this.enter();
      while (this.pos < this.end) into.push(this.id());
      this.leave(outer);
    } else {
      into.push(this.id());
    }
  }

  /** Passes over a field that nobody asked for. */
  skip(tag: number, depth = 0): void {
    switch (tag & 7) {
      case 0:
        this.varint();
        return;
      case 1:
        this.pos += 8;
        break;
      case 2:
        this.pos = this.limit();
        return;
      case 3:
        if (depth > MAX_DEPTH) throw new Malformed("groups nested too deeply");
        for (;;) {
          const inner = this.tag();
          if (inner === 0) throw new Malformed("a group without end");
          if ((inner & 7) === 4) {
            if (inner >>> 3 !== tag >>> 3) throw new Malformed("a group ends as another");
            return;
          }
          this.skip(inner, depth + 1);
        }
      case 5:
        this.pos += 4;
        break;
      default:
        throw new Malformed("an unknown wire type");
    }
    if (this.pos > this.end) throw new Malformed("truncated");
  }
}

/** Bytes being written. Grows as needed; one buffer is used again and again. Fields at their defaults are left out. */
export class Writer {
  buffer: Uint8Array;
  pos = 0;

  constructor(size = 4096) {
    this.buffer = new Uint8Array(size);
  }

  /** Makes room for `count` more bytes. */
  private room(count: number): void {
    const needed = this.pos + count;
    if (needed > this.buffer.length) {
      const larger = new Uint8Array(Math.max(needed, this.buffer.length * 2));
      larger.set(this.buffer); // all of it: `end` goes back to where a length belongs
      this.buffer = larger;
    }
  }

  /** A copy of what was written from `start` on. */
  copy(start = 0, end = this.pos): Uint8Array {
    return this.buffer.slice(start, end);
  }

  /** A number without a tag, at least 0. */
  varint(value: number): void {
    this.room(10);
    const buffer = this.buffer;
    let pos = this.pos;
    while (value >= 2147483648) {
      buffer[pos++] = (value % 128) | 0x80;
      value = Math.floor(value / 128);
    }
    while (value > 127) {
      buffer[pos++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    buffer[pos++] = value;
    this.pos = pos;
  }

  /** Bytes as they are. */
  raw(data: Uint8Array): void {
    this.room(data.length);
    this.buffer.set(data, this.pos);
    this.pos += data.length;
  }

  uint(tag: number, value: Id): void {
    if (value) {
      this.varint(tag);
      if (typeof value === "number") this.varint(value);
      else this.long(value);
    }
  }

  /** A number of up to 64 bits without a tag. */
  private long(value: bigint): void {
    this.room(10);
    let rest = value;
    while (rest > 127n) {
      this.buffer[this.pos++] = Number(rest & 127n) | 0x80;
      rest >>= 7n;
    }
    this.buffer[this.pos++] = Number(rest);
  }

  int32(tag: number, value: number): void {
    if (!value) return;
    this.varint(tag);
    if (value > 0) {
      this.varint(value);
      return;
    }
    // Ten bytes: the sign of 64 bits.
    this.room(10);
    const buffer = this.buffer;
    let rest = value | 0;
    for (let index = 0; index < 9; index++) {
      buffer[this.pos++] = (rest & 0x7f) | 0x80;
      rest >>= 7;
    }
    buffer[this.pos++] = 1;
  }

  bool(tag: number, value: boolean | undefined): void {
    if (value) {
      this.varint(tag);
      this.varint(1);
    }
  }

  bytes(tag: number, value: Uint8Array): void {
    if (value.length) {
      this.varint(tag);
      this.varint(value.length);
      this.raw(value);
    }
  }

  /** Throws AmxError INVALID_VALUE for text with lone surrogates. */
  string(tag: number, value: string | undefined): void {
    if (value) this.text(tag, value);
  }

  /** As `string`, but empty text is written, too: members of a oneof, elements of a list. */
  text(tag: number, value: string): void {
    this.varint(tag);
    const length = value.length;
    this.room(length * 3 + 5);
    const buffer = this.buffer;
    if (length <= SHORT) {
      let pos = this.pos + 1;
      let index = 0;
      for (; index < length; index++) {
        const unit = value.charCodeAt(index);
        if (unit >= 0x80) break;
        buffer[pos++] = unit;
      }
      if (index === length) {
        buffer[this.pos] = length;
        this.pos = pos;
        return;
      }
    }
    if (!value.isWellFormed()) {
      throw new AmxError(
        Code.INVALID_ARGUMENT,
        "INVALID_VALUE",
        `the text ${JSON.stringify(value.slice(0, 40))} has half of a surrogate pair; it has no form in UTF-8`,
      );
    }
    const start = this.begin(length);
    this.room(length * 3);
    this.pos += encoder.encodeInto(value, this.buffer.subarray(this.pos)).written;
    this.end(start, length);
  }

  /** Begins something with a length, which `end` puts there. expected: about how long it will be, in bytes. */
  begin(expected: number): number {
    this.room(5);
    this.pos += sizeOfVarint(expected);
    return this.pos;
  }

  /** Ends what `begin` began and returned. expected: the same as there. */
  end(start: number, expected: number): void {
    const length = this.pos - start;
    const reserved = sizeOfVarint(expected);
    const wanted = sizeOfVarint(length);
    if (wanted !== reserved) {
      this.room(wanted);
      this.buffer.copyWithin(start - reserved + wanted, start, this.pos);
    }
    this.pos = start - reserved;
    this.varint(length);
    this.pos += length;
  }
}

/** Bytes that a number below 2^35 takes. */
export function sizeOfVarint(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
}
