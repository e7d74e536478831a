/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ktstr.image, the userdata: a saved machine.
 * Depends on warm and lua/bind.h.
 */
#ifndef LUA_IMAGE_H
#define LUA_IMAGE_H

#include "lua/bind.h"
#include "warm/image.h"

/* The image of the userdata at index; raises when it is none, or closed. */
struct image *image_check(lua_State *L, int index);
/* Pushes an empty userdata; whoever has an image puts it there, and the collector has it. */
struct image **image_push(lua_State *L);

#endif
