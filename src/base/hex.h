/* hex.h - reading hexadecimal digits, of either case. */
#ifndef PIL_BASE_HEX_H
#define PIL_BASE_HEX_H

/* 0 to 15, or -1 when c is no such digit. */
static inline int pil_hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that two digits stand for, or -1. s[1] is read only when s[0] is a digit: so s may be a string that ends. */
static inline int pil_hex_byte(const char *s) {
    int high = pil_hex_digit(s[0]), low = high >= 0 ? pil_hex_digit(s[1]) : -1;
    return low >= 0 ? high << 4 | low : -1;
}

#endif
