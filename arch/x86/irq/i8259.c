/* The two old interrupt controllers: moved off the exception vectors and silenced. The IO-APICs serve their lines. */
#include <asm/x86.h>
#include "internal.h"

#define MASTER 0x20
#define SLAVE  0xa0
#define ICW1_INIT_ICW4 0x11
#define ICW4_8086_AUTO_EOI 0x03
#define VECTOR_BASE 0x20

void i8259_init(void)
{
    outb(MASTER + 1, 0xff);
    outb(SLAVE + 1, 0xff);
    outb(MASTER, ICW1_INIT_ICW4);
    outb(MASTER + 1, VECTOR_BASE);
    outb(MASTER + 1, 1u << 2);          /* the slave is on line 2 */
    outb(MASTER + 1, ICW4_8086_AUTO_EOI);
    outb(SLAVE, ICW1_INIT_ICW4);
    outb(SLAVE + 1, VECTOR_BASE + 8);
    outb(SLAVE + 1, 2);
    outb(SLAVE + 1, ICW4_8086_AUTO_EOI);
    outb(MASTER + 1, 0xff);
    outb(SLAVE + 1, 0xff);
}
