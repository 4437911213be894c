/**
 * The module's memory: everything has its place when it is compiled, nothing is allocated, and it does not grow. Who reads ahead
 * in blocks may read, and who copies in blocks may write, up to MARGIN bytes beyond what is asked for: every area has so many
 * more, and what is written there too much is overwritten by what follows.
 *
 * The bounds of an event are told from outside (limits.ts), so that they stand in one place; whoever makes an instance asserts that
 * they fit into what is reserved here.
 */

/** Bounds of one event, in bytes: EVENT_LIMITS. */
export declare const eventNameMaxBytes: u32;
export declare const userIdMaxBytes: u32;
export declare const campaignIdMaxBytes: u32;
export declare const tagsMax: u32;
export declare const tagMaxBytes: u32;
export declare const metadataMaxBytes: u32;
/** A timestamp from here on is milliseconds: MILLISECONDS_FROM. */
export declare const millisecondsFrom: f64;

const MARGIN: i32 = 64;

/** Part of a body whose events are encoded one behind another. */
export const CHUNK_BYTES: i32 = 128 * 1024;
export const CHUNK: usize = memory.data(CHUNK_BYTES + MARGIN, 16);

/** One event that comes alone. */
export const SINGLE_BYTES: i32 = 32 * 1024;
export const SINGLE: usize = memory.data(SINGLE_BYTES + MARGIN, 16);

/** The rows: no more bytes than the events, and room for a last one of any size. */
export const ROW_ROOM: i32 = 32 * 1024;
export const ROWS: usize = memory.data(CHUNK_BYTES + ROW_ROOM + MARGIN, 16);

/** Most events of one call. */
export const EVENTS_MAX: i32 = 256;

/** The ids of the events as an answer has them: in quotes, a comma behind each. */
export const ID_TEXT_BYTES: i32 = 39;
export const ID_TEXTS: usize = memory.data(EVENTS_MAX * ID_TEXT_BYTES + MARGIN, 16);

/** Of each event: where its user's id begins and ends, where it ends itself, where its row ends; u32 each. */
export const MARK_BYTES: i32 = 16;
export const MARKS: usize = memory.data(EVENTS_MAX * MARK_BYTES, 16);

/** The id of an event that came alone, in the order of its text. */
export const ID: usize = memory.data(16, 16);

/** The channels that an event may name: a u32 length and the bytes, one behind another, then a length of 0. */
export const CHANNELS_BYTES: i32 = 8 * 1024;
export const CHANNELS: usize = memory.data(CHANNELS_BYTES + MARGIN, 16);

/** Where the tags of an event stand: start and end, u32 each. */
export const TAGS_ROOM: i32 = 64;
export const TAGS: usize = memory.data(TAGS_ROOM * 8, 16);

/** Metadata without its white space. */
export const METADATA_ROOM: i32 = 16 * 1024;
export const COMPACTED: usize = memory.data(METADATA_ROOM + MARGIN, 16);

/** The canonical form that an id is derived from. */
export const FORM: usize = memory.data(ROW_ROOM + MARGIN, 16);
