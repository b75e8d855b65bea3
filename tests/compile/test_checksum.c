/* test_checksum.c - the fast checksum is XXH64. The expected values come from the Python package xxhash. */
#include "compile/checksum.h"
#include "support/test.h"

static void known_values_of_every_length_class_agree(void **state) {
    (void)state;
    unsigned char bytes[101];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 7 + 3);
    static const struct {
        size_t n;
        uint64_t seed, sum;
    } cases[] = {
        {1, 0x0, 0x1F25C8D0BC1F4BB6}, {1, 0x9E3779B97F4A7C15, 0x79826BCD749D267A},
        {2, 0x0, 0xF5BEDEC232706303}, {2, 0x9E3779B97F4A7C15, 0x416EC13888BE56BD},
        {3, 0x0, 0x31D2363F52E564C9}, {3, 0x9E3779B97F4A7C15, 0x78EFD77575E26575},
        {4, 0x0, 0x9BB64B7D66EE9FDA}, {4, 0x9E3779B97F4A7C15, 0x6F0A6C97D68BF353},
        {5, 0x0, 0xC7608EFDDB7051FE}, {5, 0x9E3779B97F4A7C15, 0xA677B535C22B67A5},
        {7, 0x0, 0x9A7B149959CE60D8}, {7, 0x9E3779B97F4A7C15, 0xD97EDE93C9D66A0D},
        {8, 0x0, 0xDAB99D95C6F90092}, {8, 0x9E3779B97F4A7C15, 0xA2F1E28437A78A1B},
        {12, 0x0, 0xD52E407833AF5133}, {12, 0x9E3779B97F4A7C15, 0xBCC9F0D616FF9A7B},
        {15, 0x0, 0x1B47CB8243CC8E32}, {15, 0x9E3779B97F4A7C15, 0xE2EC50A544FAEC61},
        {16, 0x0, 0x434850232B787BE2}, {16, 0x9E3779B97F4A7C15, 0x93351859A7286376},
        {31, 0x0, 0xA2AA5F33CC4A6119}, {31, 0x9E3779B97F4A7C15, 0x755437271D1D0A84},
        {32, 0x0, 0x23C3C17EF790FD97}, {32, 0x9E3779B97F4A7C15, 0xBF624B932C090428},
        {33, 0x0, 0x50A7CFC7BA588784}, {33, 0x9E3779B97F4A7C15, 0x7ACEAF1E9D34EA35},
        {36, 0x0, 0xC0B52B0DCC5E3F7F}, {36, 0x9E3779B97F4A7C15, 0xC2143DC58C007451},
        {40, 0x0, 0xB620306B253D76B6}, {40, 0x9E3779B97F4A7C15, 0x3B3666E250C83A50},
        {63, 0x0, 0x5E3E54B431C7493C}, {63, 0x9E3779B97F4A7C15, 0x2C8DDCE5C85D0D9D},
        {64, 0x0, 0x0EB64B3EF6EEB01F}, {64, 0x9E3779B97F4A7C15, 0x4AF341F14E3A6FC9},
        {77, 0x0, 0xC4E0603B2473C094}, {77, 0x9E3779B97F4A7C15, 0x65CE3F0F7282368F},
        {100, 0x0, 0xA61F8D4C170FE531}, {100, 0x9E3779B97F4A7C15, 0xF6D8F65C625ABB4F},
        {101, 0x0, 0xBAD4D3BF033BDA4C}, {101, 0x9E3779B97F4A7C15, 0x9A5F95077EAECB78},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(pil_checksum(bytes, cases[i].n, cases[i].seed), cases[i].sum);
    assert_int_equal(pil_checksum("", 0, 0), 0xEF46DB3751D8E999u);
    assert_int_equal(pil_checksum("abc", 3, 0), 0x44BC2CF5AD770999u);
}

static void every_changed_bit_changes_the_sum(void **state) {
    (void)state;
    unsigned char bytes[77] = {0};
    uint64_t sum = pil_checksum(bytes, sizeof bytes, 0);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_not_equal(pil_checksum(bytes, sizeof bytes, 0), sum);
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values_of_every_length_class_agree),
        cmocka_unit_test(every_changed_bit_changes_the_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
