# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Building the module elsewhere, from its sources as they are or changed:
#
#     Build::leave_make();                    # one around the tests
#     my $dir = Build::copy_of_sources();     # gone with the last reference
#     my ($status, $output) = Build::make($dir, 'all');
package Build;

use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use Private;

my $TOP = abs_path(dirname(__FILE__) . '/../..');

# A copy of what the modules are built from, in a directory of its own.
sub copy_of_sources {
    my $dir = Private::temp_dir('build');
    mkdir "$dir/proxy", 0755;
    for my $file (glob "$TOP/*.c $TOP/*.h $TOP/Makefile $TOP/proxy/*.[ch]") {
        my ($name) = $file =~ m{^\Q$TOP\E/(.+)$};
        Private::spew("$dir/$name", Private::slurp($file));
    }
    return $dir;
}

# Forgets what it hands down.
sub leave_make {
    delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES LTFLAGS DESTDIR
                   CFLAGS V)};
    return;
}

# (exit status, output)
sub make {
    my ($dir, @arguments) = @_;
    return Private::run('make', '--no-print-directory', '-C', "$dir",
                        @arguments);
}

1;
