# Another build of the module, put in its place, is there after a graceful restart.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# It has another layout of the memory that the children share, which outlives
# restarts: it must not take that of the former one for its own.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Cwd qw(abs_path);
use FcgiApp;
use File::Copy qw(copy);
use Httpd;
use JSON::PP ();
use Private;
use Test::More;

my $TOP = abs_path("$Bin/..");
my $BACKENDS = 60;      # beside the one that is asked

plan skip_all => 'it builds its own' if $ENV{MODULE_SO};
my $dir = Private::temp_dir('exchanged');
my $module = "$dir/module.so";

# Puts a module into its place as an installation does.
sub put {
    my ($file) = @_;
    copy($file, "$module.new") or die "$file: $!";
    chmod 0755, "$module.new";
    rename "$module.new", $module or die "$module: $!";
    return;
}

# One that measures to longer times, so that an account is larger.
sub build_other {
    for my $file (glob "$TOP/*.c $TOP/*.h $TOP/Makefile") {
        my ($name) = $file =~ m{([^/]+)$};
        my $text = Private::slurp($file);
        $text =~ s/(#define FCGI_HISTOGRAM_END +)36\b/${1}60/
            or $name ne 'fcgi_tally.h' or die 'where does a histogram end?';
        Private::spew("$dir/other/$name", $text);
    }
    local @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES)};
    my ($status, $output) = Private::run(
        'make', '-C', "$dir/other", '.libs/mod_fastcgi_handler.so');
    is($status, 0, 'it builds') or diag $output;
    return "$dir/other/.libs/mod_fastcgi_handler.so";
}

put(Httpd::module_file());
my $other = build_other();
my $app = FcgiApp->start(sub {
    my ($c) = @_;
    while ($c->read_request(60)) {
        $c->reply("Content-Type: text/plain\r\n\r\nright");
    }
}, workers => 8);
$ENV{MODULE_SO} = $module;
my $httpd = Httpd->start(
    vars => { APP => $app->address },
    config => join '', <<'EOC', map { "FcgiBackend /run/none.$_ max=2\n" }
FcgiBackend app @APP@ max=8 queue=10 keepalive=2
<Location />
  SetHandler fcgi:app
</Location>
<Location /status>
  SetHandler fcgi-status
</Location>
EOC
        1 .. $BACKENDS);

# Those that were asked, and how often.
sub asked {
    my $page = Client->get($httpd->port, '/status?json')->body;
    my $backends = JSON::PP::decode_json($page)->{backends};
    return map { ($_->{backend} => $_->{requests}) }
        grep { $_->{requests} } @$backends;
}

sub ask {
    my ($times) = @_;
    my @answers = map { eval { Client->get($httpd->port, '/') } } 1 .. $times;
    return scalar grep { $_->status == 200 && $_->body eq 'right' } @answers;
}

is(ask(20), 20, 'requests before');
is_deeply({ asked() }, { $app->handler => 20 }, 'are counted');
put($other);
$httpd->graceful;
is(ask(20), 20, 'requests afterwards');
my %asked = asked();
my $count = delete $asked{ $app->handler };
is_deeply(\%asked, {}, 'no other backend is said to be asked');
ok($count && $count <= 20, 'and that one counts anew') or diag $count;
$httpd->ok_healthy;
done_testing;
