# Another build of the module, put in its place, is there after a graceful restart.
# Licensed under the Apache License, Version 2.0; see LICENSE.
# It has another layout of the memory that the children share, which outlives
# restarts: it must not take that of the former one for its own.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Build;
use Client;
use FcgiApp;
use File::Copy qw(copy);
use Httpd;
use JSON::PP ();
use Private;
use Test::More;

my $BACKENDS = 60;      # beside the one that is asked

plan skip_all => 'it builds its own' if $ENV{MODULE_SO};
Build::leave_make();
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
my $other = Build::copy_of_sources();
my $header = "$other/fcgi_tally.h";
Private::spew($header, Private::slurp($header)
    =~ s/(#define FCGI_HISTOGRAM_END +)36\b/${1}60/r);
isnt(Private::slurp($header), Private::slurp("$Bin/../fcgi_tally.h"),
     'another layout');
my ($status, $output) = Build::make($other, '.libs/mod_fastcgi_handler.so');
is($status, 0, 'it builds') or diag $output;

put(Httpd::module_file());
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
put("$other/.libs/mod_fastcgi_handler.so");
$httpd->graceful;
is(ask(20), 20, 'requests afterwards');
my %asked = asked();
my $count = delete $asked{ $app->handler };
is_deeply(\%asked, {}, 'no other backend is said to be asked');
ok($count && $count <= 20, 'and that one counts anew') or diag $count;
$httpd->ok_healthy;
done_testing;
