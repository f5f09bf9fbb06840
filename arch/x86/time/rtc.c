/* The CMOS real-time clock (MC146818 data sheet), read once at boot. */
#include <asm/time.h>
#include <asm/x86.h>
#include <pvisor/lib.h>

enum { RTC_SEC = 0, RTC_MIN = 2, RTC_HOUR = 4, RTC_DAY = 7, RTC_MONTH = 8, RTC_YEAR = 9,
       RTC_A = 10, RTC_B = 11, RTC_CENTURY = 0x32 };
#define RTC_A_UPDATING 0x80
#define RTC_B_24H      0x02
#define RTC_B_BINARY   0x04
#define RTC_PM         0x80

struct rtc_time { u8 sec, min, hour, day, month, year, century; };

static u8 cmos_read(u8 reg)
{
    outb(0x70, reg);
    return inb(0x71);
}

static struct rtc_time read_registers(void)
{
    for (unsigned i = 0; i < 100000 && (cmos_read(RTC_A) & RTC_A_UPDATING); i++)
        cpu_relax();
    return (struct rtc_time){ cmos_read(RTC_SEC), cmos_read(RTC_MIN), cmos_read(RTC_HOUR), cmos_read(RTC_DAY),
                              cmos_read(RTC_MONTH), cmos_read(RTC_YEAR), cmos_read(RTC_CENTURY) };
}

static unsigned from_bcd(u8 v)
{
    return (v >> 4) * 10u + (v & 15);
}

/*
 * Days from 1970-01-01 to a date of the Gregorian calendar: years are counted from March, leap days come
 * last.
 */
static u64 days_since_1970(unsigned year, unsigned month, unsigned day)
{
    unsigned y = month > 2 ? year : year - 1, m = (month + 9) % 12;

    return y * 365UL + y / 4 - y / 100 + y / 400 + (m * 306UL + 5) / 10 + (day - 1) - 719468;
}

u64 rtc_read(void)
{
    struct rtc_time t = read_registers(), again = read_registers();
    u8 mode = cmos_read(RTC_B);
    bool pm = !(mode & RTC_B_24H) && (t.hour & RTC_PM);
    unsigned year;

    while (memcmp(&t, &again, sizeof(t))) {
        t = again;
        again = read_registers();
    }
    if (!(mode & RTC_B_24H))
        t.hour &= (u8)~RTC_PM;
    if (!(mode & RTC_B_BINARY))
        t = (struct rtc_time){ from_bcd(t.sec), from_bcd(t.min), from_bcd(t.hour), from_bcd(t.day),
                               from_bcd(t.month), from_bcd(t.year), from_bcd(t.century) };
    if (!(mode & RTC_B_24H))
        t.hour = (u8)(t.hour % 12 + (pm ? 12 : 0));
    /* Not every clock has a century; without one, two digits mean 1970 to 2069. */
    year = t.year + (t.year < 70 ? 2000u : 1900u);
    if (t.century >= 19 && t.century <= 21)
        year = t.century * 100u + t.year;
    if (t.month < 1 || t.month > 12 || t.day < 1 || t.day > 31 || t.hour > 23 || t.min > 59 || t.sec > 59)
        return 0;
    return days_since_1970(year, t.month, t.day) * 86400 + t.hour * 3600UL + t.min * 60UL + t.sec;
}
